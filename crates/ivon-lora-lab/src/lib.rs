#![doc = include_str!("../README.md")]

pub mod report;
pub mod study;
pub mod compare;

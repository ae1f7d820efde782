//! Scores of rows with known labels → rules that say when to answer, when to leave a case to someone
//! else, and which answers to offer, with what they promise. Nothing here knows of a model.

mod tail;
mod sequence;

pub use sequence::rejected;
pub use tail::{
    bernoulli_divergence, binomial_tail, exact_interval, fewest_rows, hoeffding_bentkus,
};

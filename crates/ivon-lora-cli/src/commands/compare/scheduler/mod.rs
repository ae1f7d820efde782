//! The runs of a comparison → a file that a scheduler makes them from, on machines that share a
//! folder: a Slurm script, a Kubernetes Job, or a Ray program.

mod jobs;
#[cfg(test)]
mod testing;
mod slurm;
mod kubernetes;
mod ray;

pub use jobs::{ClusterJobs, Container};

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Arrays of jobs, each after those that it waits for.
    Slurm,
    /// An indexed Job.
    Kubernetes,
    /// A program that makes each run as a task.
    Ray,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slurm, Self::Kubernetes, Self::Ray];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slurm => "slurm",
            Self::Kubernetes => "kubernetes",
            Self::Ray => "ray",
        }
    }

    /// The name of the file for it, in the folder of the comparison.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Slurm => "slurm.sh",
            Self::Kubernetes => "kubernetes.yaml",
            // A file named `ray` would be what it imports.
            Self::Ray => "on_ray.py",
        }
    }

    /// The command that submits such a file, without the file.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Self::Slurm => &["bash"],
            Self::Kubernetes => &["kubectl", "apply", "-f"],
            Self::Ray => &["python3"],
        }
    }

    /// The text of the file.
    pub fn text(self, jobs: &ClusterJobs<'_>) -> String {
        match self {
            Self::Slurm => slurm::script(jobs),
            Self::Kubernetes => kubernetes::manifest(jobs),
            Self::Ray => ray::program(jobs),
        }
    }
}

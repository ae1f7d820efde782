//! Scores of rows with known labels → rules that say when to answer, when to leave a case to someone
//! else, and which answers to offer, with what they promise. Nothing here knows of a model.

mod error;
mod tail;
mod promise;
mod sequence;
mod costs;
mod score;
mod threshold;
mod risk_control;
mod conformal;
mod rule;
mod exchangeability;

pub use conformal::{LabelledProbabilities, Nonconformity, SetDemand, SetRule};
pub use costs::CostMatrix;
pub use error::DecideError;
pub use exchangeability::{ConformalMartingale, FEWEST_CASES, KolmogorovSmirnov};
pub use promise::{Outcome, Promise, Shortfall};
pub use risk_control::{expected_cost_cutoff, expected_cost_rule};
pub use rule::{Rule, Verdict};
pub use score::{Case, DecisionScore, Evidence, LabelledCase};
pub use sequence::rejected;
pub use tail::{
    bernoulli_divergence, binomial_tail, exact_interval, fewest_rows, hoeffding_bentkus,
};
pub use threshold::{Cutoff, Demand, Limit, ScoreCases, ThresholdRule};

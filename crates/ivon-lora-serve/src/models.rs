//! One base in memory and the adapters on it, each with its thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ivon_lora::answer::{AnswerOptions, Answerer, Base, Generator, GeneratorOptions, answers_of};
use ivon_lora::bundle::{Decision, Sidecar};
use ivon_lora::data::Task;
use ivon_lora::watch::Watch;

use crate::error::{Refusal, ServeError};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::predicting::Predicting;
use crate::wire::ModelCard;
use crate::writing::Writing;

/// An adapter to be served.
#[derive(Clone, Debug)]
pub struct ServedAdapter {
    /// The name by which requests ask for it.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The number of draws; by default as its run chose.
    pub samples: Option<usize>,
    /// τ; by default that of its run.
    pub scale: Option<f64>,
}

/// What a model does.
enum Work {
    Predict(Predicting),
    Write(Writing),
}

/// The served models by name.
pub struct Models {
    work: BTreeMap<String, (ModelCard, Work)>,
    limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
}

impl Models {
    /// No models yet.
    ///
    /// # Errors
    /// If a limit is zero.
    pub fn new(limits: Limits) -> Result<Self, ServeError> {
        limits.validate()?;
        Ok(Self {
            work: BTreeMap::new(),
            limits,
            metrics: Arc::default(),
        })
    }

    /// The limits of requests.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Serves the base itself, which writes.
    ///
    /// # Errors
    /// If the name is taken, or a thread is refused.
    pub fn add_base(
        &mut self,
        name: &str,
        base: &Base,
        watch: Watch<'_>,
    ) -> Result<(), ServeError> {
        let options = GeneratorOptions::default();
        let generator = Generator::on(base.clone(), &options, watch)?;
        let card = card(name, base, None);
        self.add(card, |limits, metrics| {
            Ok(Work::Write(Writing::start(generator, limits, metrics)?))
        })
    }

    /// Serves an adapter on a base: one of a task with choices predicts, one of texts or of another
    /// program writes.
    ///
    /// # Errors
    /// Whatever is wrong with the adapter; if the name is taken, or a thread is refused.
    pub fn add_adapter(
        &mut self,
        adapter: &ServedAdapter,
        base: &Base,
        watch: Watch<'_>,
    ) -> Result<(), ServeError> {
        let sidecar =
            Sidecar::read(&adapter.folder).map_err(ivon_lora::answer::AnswerError::from)?;
        let mut card = card(&adapter.name, base, sidecar.as_ref());
        let predicts = sidecar.is_some_and(|sidecar| !sidecar.task.is_text());
        if predicts {
            let answerer = answerer(adapter, base, watch)?;
            card.does = "predict";
            card.draws = answerer.options().samples;
            card.decision = answerer.decision().map(decision_words);
            self.add(card, |limits, metrics| {
                Ok(Work::Predict(Predicting::start(answerer, limits, metrics)?))
            })
        } else {
            let options = GeneratorOptions {
                adapter: Some(adapter.folder.clone()),
                scale: adapter.scale,
                uncertainty: true,
                scoring_draws: adapter.samples,
                ..GeneratorOptions::default()
            };
            let generator = Generator::on(base.clone(), &options, watch)?;
            card.draws = generator.scoring_draws();
            self.add(card, |limits, metrics| {
                Ok(Work::Write(Writing::start(generator, limits, metrics)?))
            })
        }
    }

    fn add(
        &mut self,
        card: ModelCard,
        start: impl FnOnce(Limits, Arc<Metrics>) -> std::io::Result<Work>,
    ) -> Result<(), ServeError> {
        let name = card.id.clone();
        if self.work.contains_key(&name) {
            return Err(ServeError::SameName { name });
        }
        let work = start(self.limits, Arc::clone(&self.metrics))?;
        self.work.insert(name, (card, work));
        Ok(())
    }

    /// What is served.
    pub(crate) fn cards(&self) -> impl Iterator<Item = &ModelCard> {
        self.work.values().map(|(card, _)| card)
    }

    /// The model that predicts under this name, or the only one.
    pub(crate) fn predicting(
        &self,
        name: Option<&str>,
    ) -> Result<(&ModelCard, &Predicting), Refusal> {
        self.find(name, "predicts", |work| match work {
            Work::Predict(predicting) => Some(predicting),
            Work::Write(_) => None,
        })
    }

    /// The model that writes under this name, or the only one.
    pub(crate) fn writing(&self, name: Option<&str>) -> Result<(&ModelCard, &Writing), Refusal> {
        self.find(name, "writes", |work| match work {
            Work::Write(writing) => Some(writing),
            Work::Predict(_) => None,
        })
    }

    /// The model of this name, or the only one that does what is asked for.
    fn find<'a, T>(
        &'a self,
        name: Option<&str>,
        does: &str,
        part: impl Fn(&'a Work) -> Option<T>,
    ) -> Result<(&'a ModelCard, T), Refusal> {
        let able = || {
            let all = self.work.values();
            all.filter_map(|(card, work)| Some((card, part(work)?)))
        };
        let names = || {
            able()
                .map(|(card, _)| format!("`{}`", card.id))
                .collect::<Vec<_>>()
        };
        let expected = || match names().is_empty() {
            true => format!("and no model of this server {does}"),
            false => format!("expected one that {does}: {}", names().join(", ")),
        };
        let found = match name {
            Some(name) => able().find(|(card, _)| card.id == name),
            None if able().count() == 1 => able().next(),
            None => {
                let message = format!("`model` is absent, {}", expected());
                return Err(Refusal::request(message));
            }
        };
        found.ok_or_else(|| {
            let message = format!("`model` is `{}`, {}", name.unwrap_or_default(), expected());
            Refusal::request(message).with_status(axum::http::StatusCode::NOT_FOUND)
        })
    }
}

fn answerer(
    adapter: &ServedAdapter,
    base: &Base,
    watch: Watch<'_>,
) -> Result<Answerer, ServeError> {
    let options = AnswerOptions {
        samples: adapter.samples,
        scale: adapter.scale,
        decide: true,
        ..AnswerOptions::default()
    };
    let answerer = Answerer::on(base.clone(), &adapter.folder, &options, watch)?;
    Ok(answerer.with_prepared_draws()?)
}

/// What is known of a model before it is opened.
fn card(name: &str, base: &Base, sidecar: Option<&Sidecar>) -> ModelCard {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let task = sidecar.map(|sidecar| &sidecar.task);
    let with_choices = task.filter(|task| !task.is_text());
    ModelCard {
        id: name.into(),
        object: "model",
        created: now.map_or(0, |since| since.as_secs()),
        owned_by: "ivon-lora",
        does: "write",
        base: base.record.name.clone(),
        method: sidecar.map(|sidecar| sidecar.method.clone()),
        task: task.map(|task| task.name.clone()),
        columns: with_choices.map_or_else(Vec::new, columns),
        answers: with_choices.map_or_else(Vec::new, answers_of),
        draws: 0,
        decision: None,
    }
}

fn columns(task: &Task) -> Vec<String> {
    let reader = task.reader();
    let columns = reader.iter().flat_map(|reader| reader.columns());
    columns.map(String::from).collect()
}

/// A decision rule and what it promises.
fn decision_words(decision: &Decision) -> String {
    let action = decision.rule.action(&decision.answers);
    format!("{action}; {}", decision.promise)
}

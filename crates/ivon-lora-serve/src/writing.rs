//! The thread that writes with one model: texts join those that are being written, and each step
//! writes a token of every one.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ivon_lora::answer::Generator;
use ivon_lora::generate::{
    Beginning, Ended, GenerateError, WriteOptions, WritePrompt, WritingBatch, Written, WrittenToken,
};
use ivon_lora::predict::WrittenAnswer;
use tokio::sync::mpsc;

use crate::error::Refusal;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// Texts to be written after some prompts.
pub struct WriteJob {
    /// The tokens of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// The number of texts for each.
    pub samples: usize,
    /// How they are written.
    pub options: WriteOptions,
    /// Whether each is scored under draws of the posterior.
    pub uncertainty: bool,
}

/// What happens to a text; texts are counted from 0, those of a prompt one after the other.
pub enum WriteEvent {
    /// A token was written.
    Token(usize, WrittenToken),
    /// The text has ended.
    Ended(usize, Written, Option<WrittenAnswer>),
    /// The text cannot be written to its end.
    Failed(Refusal),
}

/// A text that waits.
struct Text {
    /// Its place among the texts of its request.
    place: usize,
    prompt: WritePrompt,
    options: WriteOptions,
    uncertainty: bool,
    events: mpsc::UnboundedSender<WriteEvent>,
}

/// A queue to the thread.
#[derive(Clone)]
pub struct Writing {
    generator: Arc<Generator>,
    texts: mpsc::Sender<Vec<Text>>,
    waiting: usize,
}

impl Writing {
    /// Starts the thread. It ends when nobody can ask it any more.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn start(
        generator: Generator,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let generator = Arc::new(generator);
        let (texts, queue) = mpsc::channel(limits.waiting);
        let own = Arc::clone(&generator);
        let work = move || {
            let mut desk = Desk {
                queue,
                waiting: VecDeque::new(),
                together: limits.together,
                metrics,
            };
            // A mistake in the program ends the texts of this moment, and no others.
            while catch_unwind(AssertUnwindSafe(|| desk.write_all(&own))).is_err() {}
        };
        thread::Builder::new().name("writing".into()).spawn(work)?;
        Ok(Self {
            generator,
            texts,
            waiting: limits.waiting,
        })
    }

    /// The model.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Begins to write; what happens to the texts is received.
    ///
    /// # Errors
    /// If a prompt cannot be continued, or too many requests wait.
    pub fn write(&self, job: WriteJob) -> Result<mpsc::UnboundedReceiver<WriteEvent>, Refusal> {
        let (events, received) = mpsc::unbounded_channel();
        let mut texts = Vec::new();
        for tokens in &job.prompts {
            for sample in 0..job.samples {
                let prompt = WritePrompt {
                    tokens: tokens.clone(),
                    draw: 0,
                    sample: sample as u64,
                };
                self.generator.check(&prompt, &job.options)?;
                texts.push(Text {
                    place: texts.len(),
                    prompt,
                    options: job.options.clone(),
                    uncertainty: job.uncertainty,
                    events: events.clone(),
                });
            }
        }
        self.texts.try_send(texts).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy(self.waiting),
            mpsc::error::TrySendError::Closed(_) => Refusal::failed(),
        })?;
        Ok(received)
    }
}

/// What the thread holds besides the texts that it is writing.
struct Desk {
    queue: mpsc::Receiver<Vec<Text>>,
    waiting: VecDeque<Text>,
    together: usize,
    metrics: Arc<Metrics>,
}

impl Desk {
    /// Writes until nobody asks any more.
    fn write_all(&mut self, generator: &Generator) {
        let mut batch = generator.batch();
        let mut open: HashMap<usize, Text> = HashMap::new();
        let mut next = 0;
        loop {
            if !self.receive(open.is_empty()) {
                return;
            }
            let room = self.together.saturating_sub(open.len());
            let joining = self.waiting.drain(..room.min(self.waiting.len()));
            let joining = joining.filter(|text| !text.events.is_closed());
            let joining: Vec<(usize, Text)> = (next..).zip(joining).collect();
            next += joining.len();
            join(&mut batch, &mut open, joining);
            if open.is_empty() {
                continue;
            }
            self.metrics.together.observe(open.len() as f64);
            self.metrics.tokens.inc_by(open.len() as u64);
            let ended = batch.step(&mut |index, token| {
                open.get(&index).is_some_and(|text| {
                    let event = WriteEvent::Token(text.place, token);
                    text.events.send(event).is_ok()
                })
            });
            for ended in ended {
                if let Some(text) = open.remove(&ended.index) {
                    end(generator, &text, ended);
                }
            }
        }
    }

    /// Takes what waits in the queue; where there is nothing to write, waits for it. False if nobody
    /// can ask any more.
    fn receive(&mut self, is_idle: bool) -> bool {
        if is_idle && self.waiting.is_empty() {
            match self.queue.blocking_recv() {
                Some(texts) => self.waiting.extend(texts),
                None => return false,
            }
        }
        // The others stay in the queue, whose length is limited.
        while self.waiting.len() < self.together
            && let Ok(texts) = self.queue.try_recv()
        {
            self.waiting.extend(texts);
        }
        true
    }
}

/// Texts that begin join those that are open.
fn join(
    batch: &mut WritingBatch<'_>,
    open: &mut HashMap<usize, Text>,
    joining: Vec<(usize, Text)>,
) {
    let beginnings = joining.iter().map(|(index, text)| Beginning {
        index: *index,
        prompt: text.prompt.clone(),
        options: text.options.clone(),
    });
    match batch.join(beginnings.collect()) {
        Ok(()) => open.extend(joining),
        Err(error) => {
            let refusal = Refusal::from(error);
            for (_, text) in joining {
                let _ = text.events.send(WriteEvent::Failed(refusal.clone()));
            }
        }
    }
}

/// Scores a text that has ended, and sends it.
fn end(generator: &Generator, text: &Text, ended: Ended) {
    let event = match ended.written {
        Ok(written) => {
            let score = || generator.score(&text.prompt.tokens, &written);
            let uncertainty = text.uncertainty.then(score);
            WriteEvent::Ended(text.place, written, uncertainty)
        }
        // Nobody listens any more.
        Err(GenerateError::Stopped) => return,
        Err(error) => WriteEvent::Failed(error.into()),
    };
    let _ = text.events.send(event);
}

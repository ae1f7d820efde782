//! `POST /v1/chat/completions` and `POST /v1/completions`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use axum::response::{IntoResponse, Response};
use ivon_lora::answer::{Generator, WritingPrompt};
use ivon_lora::generate::WrittenToken;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::error::Refusal;
use crate::models::Models;
use crate::wire::{
    self, ChatRequest, Choice, Common, CompletionRequest, TextAnswer, TextToken, Usage, chat_chunk,
    chat_response, completion_chunk, completion_response,
};
use crate::writing::{WriteEvent, WriteJob, Writing};

/// Tokens of a completion if the request does not say, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// Which of the two forms a response has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Chat,
    Completion,
}

/// A request in the terms of both forms.
struct Asked<'a> {
    form: Form,
    prompts: Vec<WritingPrompt>,
    /// The number of alternatives to each token, if their probabilities are wanted.
    alternatives: Option<usize>,
    /// Tokens of a text if the request does not say.
    tokens: usize,
    common: &'a Common,
}

/// Answers a conversation.
pub async fn chat(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request: ChatRequest = wire::read(&headers, &wire::whole(bytes, models.limits().body)?)?;
    let asked = Asked {
        form: Form::Chat,
        prompts: vec![request.prompt()?],
        alternatives: request.alternatives()?,
        tokens: models.limits().tokens,
        common: &request.common,
    };
    answer(&models, asked).await
}

/// Continues texts.
pub async fn completion(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let limits = models.limits();
    let request: CompletionRequest = wire::read(&headers, &wire::whole(bytes, limits.body)?)?;
    let prompts = request.prompts(limits)?.iter().cloned();
    let asked = Asked {
        form: Form::Completion,
        prompts: prompts.map(WritingPrompt::Text).collect(),
        alternatives: request.alternatives()?,
        tokens: COMPLETION_TOKENS,
        common: &request.common,
    };
    answer(&models, asked).await
}

async fn answer(models: &Arc<Models>, asked: Asked<'_>) -> Result<Response, Refusal> {
    let limits = models.limits();
    let common = asked.common;
    let alternatives = asked.alternatives.unwrap_or(0);
    let options = common.options(asked.tokens, alternatives, limits)?;
    let samples = common.samples(limits)?;
    let texts = samples * asked.prompts.len();
    if texts > limits.texts {
        let message = format!(
            "{texts} texts are wanted, expected at most {}",
            limits.texts
        );
        return Err(Refusal::request(message));
    }
    let (card, writing) = models.writing(common.model.as_deref())?;
    let encode = |prompt: &WritingPrompt| writing.generator().encode(prompt);
    let prompts: Vec<Vec<u32>> = asked.prompts.iter().map(encode).collect::<Result<_, _>>()?;
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let events = writing.write(WriteJob {
        prompts,
        samples,
        options,
        uncertainty: common.with_uncertainty(),
    })?;
    let answer = Answer {
        form: asked.form,
        head: head(asked.form, &card.id),
        writing: writing.clone(),
        with_tokens: asked.alternatives.is_some(),
        with_usage: common.with_usage(),
        prompt_tokens,
        texts,
        seconds: limits.seconds,
    };
    match common.is_stream() {
        true => Ok(answer.stream(events).into_response()),
        false => answer.whole(events).await.map(IntoResponse::into_response),
    }
}

/// What identifies a response.
fn head(form: Form, model: &str) -> TextAnswer {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let created = now.map_or(0, |since| since.as_secs());
    let kind = if form == Form::Chat {
        "chatcmpl"
    } else {
        "cmpl"
    };
    TextAnswer {
        id: format!("{kind}-{created:x}-{number}"),
        created,
        model: model.into(),
    }
}

/// How the events of texts become a response.
struct Answer {
    form: Form,
    head: TextAnswer,
    writing: Writing,
    /// Whether the probabilities of tokens are wanted.
    with_tokens: bool,
    /// Whether a stream ends with the number of tokens.
    with_usage: bool,
    prompt_tokens: usize,
    texts: usize,
    seconds: u64,
}

impl Answer {
    /// All texts, when the last has ended.
    async fn whole(
        self,
        mut events: UnboundedReceiver<WriteEvent>,
    ) -> Result<Json<Value>, Refusal> {
        let mut choices: Vec<Choice> = (0..self.texts)
            .map(|index| Choice {
                index,
                tokens: self.with_tokens.then(Vec::new),
                ..Choice::default()
            })
            .collect();
        let mut written = 0;
        let all = async {
            while let Some(event) = events.recv().await {
                match event {
                    WriteEvent::Token(place, token) => {
                        written += 1;
                        if let Some(tokens) = &mut choices[place].tokens {
                            tokens.push(self.token(&token));
                        }
                    }
                    WriteEvent::Ended(place, text, uncertainty) => {
                        let choice = &mut choices[place];
                        choice.text = text.text;
                        choice.finish_reason = Some(text.finish_reason);
                        choice.uncertainty = uncertainty;
                    }
                    WriteEvent::Failed(refusal) => return Err(refusal),
                }
            }
            Ok(())
        };
        let limit = Duration::from_secs(self.seconds);
        let ended = timeout(limit, all).await;
        ended.map_err(|_| Refusal::late(self.seconds))??;
        if choices.iter().any(|choice| choice.finish_reason.is_none()) {
            return Err(Refusal::failed());
        }
        let usage = Usage::of(self.prompt_tokens, written);
        Ok(Json(match self.form {
            Form::Chat => chat_response(&self.head, &choices, usage),
            Form::Completion => completion_response(&self.head, &choices, usage),
        }))
    }

    /// Pieces of the texts as they are written, as server-sent events, and `[DONE]`.
    fn stream(self, events: UnboundedReceiver<WriteEvent>) -> Sse<KeepAliveStream<EventStream>> {
        let (sent, received) = unbounded_channel();
        tokio::spawn(async move {
            // If nobody receives any more, the events are dropped, and with them the texts end.
            let _ = Pieces::new(self, sent).send_all(events).await;
        });
        let stream: EventStream = UnboundedReceiverStream::new(received);
        Sse::new(stream).keep_alive(KeepAlive::default())
    }

    fn token(&self, token: &WrittenToken) -> TextToken {
        TextToken::of(token, |token| text_of(self.writing.generator(), token))
    }

    /// A piece of a stream.
    fn chunk(&self, choice: Option<&Choice>, is_first: bool, usage: Option<Usage>) -> Value {
        match self.form {
            Form::Chat => chat_chunk(&self.head, choice, is_first, usage),
            Form::Completion => completion_chunk(&self.head, choice, usage),
        }
    }
}

/// The text of one token, special ones too.
fn text_of(generator: &Generator, token: u32) -> String {
    let tokenizer = &generator.base().tokenizer;
    tokenizer.decode(&[token]).unwrap_or_default()
}

/// Server-sent events.
type EventStream = UnboundedReceiverStream<Result<Event, Infallible>>;

/// Nobody receives the events any more.
struct Gone;

/// The events of texts → pieces of a stream.
struct Pieces {
    answer: Answer,
    sent: UnboundedSender<Result<Event, Infallible>>,
    /// Whether a piece of each text was sent.
    is_begun: Vec<bool>,
    /// The number of tokens written.
    written: usize,
}

impl Pieces {
    fn new(answer: Answer, sent: UnboundedSender<Result<Event, Infallible>>) -> Self {
        Self {
            is_begun: vec![false; answer.texts],
            answer,
            sent,
            written: 0,
        }
    }

    /// Sends all pieces, the usage if it is wanted, and `[DONE]`.
    async fn send_all(mut self, mut events: UnboundedReceiver<WriteEvent>) -> Result<(), Gone> {
        let seconds = self.answer.seconds;
        let mut open = self.answer.texts;
        while open > 0 {
            let next = timeout(Duration::from_secs(seconds), events.recv()).await;
            let failed = match next {
                Ok(Some(WriteEvent::Token(place, token))) => {
                    self.token(place, &token)?;
                    continue;
                }
                Ok(Some(WriteEvent::Ended(place, written, uncertainty))) => {
                    open -= 1;
                    self.piece(Choice {
                        index: place,
                        finish_reason: Some(written.finish_reason),
                        uncertainty,
                        ..Choice::default()
                    })?;
                    continue;
                }
                Ok(Some(WriteEvent::Failed(refusal))) => refusal,
                Ok(None) => Refusal::failed(),
                Err(_) => Refusal::late(seconds),
            };
            return self.send(failed.body().to_string());
        }
        if self.answer.with_usage {
            let usage = Usage::of(self.answer.prompt_tokens, self.written);
            let chunk = self.answer.chunk(None, false, Some(usage));
            self.send(chunk.to_string())?;
        }
        self.send("[DONE]".into())
    }

    /// A token of a text, if there is something to send of it.
    fn token(&mut self, place: usize, token: &WrittenToken) -> Result<(), Gone> {
        self.written += 1;
        let tokens = self
            .answer
            .with_tokens
            .then(|| vec![self.answer.token(token)]);
        if token.piece.is_empty() && tokens.is_none() {
            return match self.sent.is_closed() {
                true => Err(Gone),
                false => Ok(()),
            };
        }
        self.piece(Choice {
            index: place,
            text: token.piece.clone(),
            tokens,
            ..Choice::default()
        })
    }

    fn piece(&mut self, choice: Choice) -> Result<(), Gone> {
        let is_first = !std::mem::replace(&mut self.is_begun[choice.index], true);
        let chunk = self.answer.chunk(Some(&choice), is_first, None);
        self.send(chunk.to_string())
    }

    fn send(&self, data: String) -> Result<(), Gone> {
        let event = Event::default().data(data);
        self.sent.send(Ok(event)).map_err(|_| Gone)
    }
}

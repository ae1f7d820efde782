//! What can go wrong: in starting the server, and in a request.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ivon_lora::answer::AnswerError;
use ivon_lora::generate::GenerateError;
use ivon_lora::sentence::{Sentence, sentence, setting};
use ivon_lora::settings::SettingError;
use serde_json::{Value, json};

/// The server could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A model could not be opened.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A setting is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Two adapters have the same name.
    #[error("two of the served models have the name `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// The address cannot be used.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Host and port.
        address: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The operating system refused a thread or a connection.
    #[error("the server stopped: {0}")]
    Io(#[from] std::io::Error),
}

impl ServeError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Answer(error) => error.hint(),
            Self::SameName { .. } => Some("give one of them a name of its own: NAME=FOLDER".into()),
            Self::Listen { .. } => Some(sentence!(
                "is another program using this port? name another with `{}`",
                setting("port")
            )),
            Self::Setting(_) | Self::Io(_) => None,
        }
    }
}

/// A request that is refused, or that failed: a status, a sentence, and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
    pub hint: Option<String>,
}

impl Refusal {
    /// The request is wrong.
    pub fn request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            hint: None,
        }
    }

    /// The request is wrong; `hint` says what helps.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Another status than that of a wrong request.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// More requests wait than are taken.
    pub fn busy(waiting: usize) -> Self {
        let message = format!("{waiting} requests are waiting already, which is as many as may");
        Self::request(message)
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_hint("try again later")
    }

    /// The answer took too long.
    pub fn late(seconds: u64) -> Self {
        let message = format!("there was no answer within {seconds} s");
        Self::request(message).with_status(StatusCode::GATEWAY_TIMEOUT)
    }

    /// The thread that computes is gone, or panicked.
    pub fn failed() -> Self {
        Self::request("the computation failed by a mistake in the program")
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
            .with_hint("please report it, with the request")
    }
}

impl From<AnswerError> for Refusal {
    /// What is wrong with rows is the request's fault; the rest is the model's.
    fn from(error: AnswerError) -> Self {
        let status = match &error {
            AnswerError::Data(_) | AnswerError::Setting(_) | AnswerError::Tokenizer(_) => {
                StatusCode::BAD_REQUEST
            }
            AnswerError::Generate(error) => of_generate(error),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: error.to_string(),
            hint: error.hint().map(|hint| hint.to_string()),
        }
    }
}

impl From<GenerateError> for Refusal {
    fn from(error: GenerateError) -> Self {
        Self {
            status: of_generate(&error),
            message: error.to_string(),
            hint: error.hint().map(|hint| hint.to_string()),
        }
    }
}

fn of_generate(error: &GenerateError) -> StatusCode {
    match error {
        GenerateError::NotFinite { .. } | GenerateError::Stopped => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

impl Refusal {
    /// The form of OpenAI's errors, with the hint beside.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            status if status.is_server_error() => "server_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ => "invalid_request_error",
        };
        json!({
            "error": {
                "message": self.message,
                "hint": self.hint,
                "type": kind,
                "param": null,
                "code": null,
            }
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let header = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

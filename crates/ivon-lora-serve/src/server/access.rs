//! Who may ask, and what is noted of each request.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::{Log, LogLine};
use crate::error::Refusal;
use crate::metrics::Metrics;

/// The token, the log and the counters.
pub struct Access {
    /// The hash of the token: hashes are compared, so that the time says nothing about the token.
    token: Option<[u8; 32]>,
    log: Log,
    metrics: Arc<Metrics>,
}

impl Access {
    pub fn new(token: Option<&str>, log: Log, metrics: Arc<Metrics>) -> Self {
        Self {
            token: token.map(|token| Sha256::digest(token).into()),
            log,
            metrics,
        }
    }

    /// Whether a request has the token, if there is one.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|given| given.to_str().ok()).unwrap_or("");
        let bearer = given
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        bearer.is_some_and(|(_, given)| Sha256::digest(given.trim())[..] == token[..])
    }
}

/// Refuses a request without the token.
pub async fn guarded(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.admits(request.headers()) {
        true => next.run(request).await,
        false => Refusal::request("this server wants a token, and the request has none or another")
            .with_status(StatusCode::UNAUTHORIZED)
            .with_hint("send the header `Authorization: Bearer TOKEN`")
            .into_response(),
    }
}

/// Counts and notes a request.
pub async fn watched(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_string(),
    );
    access.metrics.in_flight.inc();
    let response = next.run(request).await;
    access.metrics.in_flight.dec();
    let took = begun.elapsed();
    let status = response.status().as_u16();
    let known = matched.as_ref().map_or("other", MatchedPath::as_str);
    access.metrics.answered(known, status, took);
    (access.log)(&LogLine {
        method,
        path,
        status,
        milliseconds: took.as_millis(),
    });
    response
}

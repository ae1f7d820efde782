//! What the server says about itself: models, counters, description, page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse};
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::models::Models;

/// The description of every request and response (OpenAPI 3.1).
const DESCRIPTION: &str = include_str!("../openapi.json");

/// The page.
const PAGE: &str = include_str!("../page.html");

/// `GET /v1/models`.
pub async fn models(State(models): State<Arc<Models>>) -> Json<Value> {
    let cards: Vec<_> = models.cards().collect();
    Json(json!({"object": "list", "data": cards}))
}

/// `GET /metrics`.
pub async fn metrics(State(models): State<Arc<Models>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], models.metrics.text())
}

/// `GET /healthz`.
pub async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /openapi.json`.
pub async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION)
}

/// `GET /`: the page, which loads nothing from elsewhere.
pub async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    (
        [
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        Html(PAGE),
    )
}

/// An address without a handler.
pub async fn nothing_here(uri: Uri) -> Refusal {
    Refusal::request(format!("there is nothing at `{}`", uri.path()))
        .with_status(StatusCode::NOT_FOUND)
        .with_hint("`GET /openapi.json` lists every address")
}

/// An address with a handler for another method.
pub async fn other_method(method: Method, uri: Uri) -> Refusal {
    Refusal::request(format!("`{}` does not answer to {method}", uri.path()))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .with_hint("`GET /openapi.json` lists every address")
}

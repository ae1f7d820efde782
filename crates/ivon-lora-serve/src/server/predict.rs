//! `POST /v1/predict`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use tokio::time::timeout;

use crate::error::Refusal;
use crate::models::Models;
use crate::wire::{self, PredictRequest, PredictResponse};

/// Answers rows or prompts.
pub async fn predict(
    State(models): State<Arc<Models>>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Json<PredictResponse>, Refusal> {
    let limits = *models.limits();
    let request: PredictRequest = wire::read(&headers, &wire::whole(bytes, limits.body)?)?;
    let (card, predicting) = models.predicting(request.model.as_deref())?;
    let count = request.count();
    let rows = request.into_rows(limits.rows)?;
    let answer = predicting.answer(count, rows);
    let answered = timeout(Duration::from_secs(limits.seconds), answer)
        .await
        .map_err(|_| Refusal::late(limits.seconds))??;
    Ok(Json(PredictResponse {
        model: card.id.clone(),
        predictions: answered.rows,
        warnings: answered.warnings,
    }))
}

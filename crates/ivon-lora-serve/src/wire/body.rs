//! A body of JSON → a request, or a sentence about what is wrong with it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::error::Refusal;

/// A body that was read to its end.
///
/// # Errors
/// If it is too long, or was cut off.
pub fn whole(bytes: Result<Bytes, BytesRejection>, most: usize) -> Result<Bytes, Refusal> {
    bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is longer than {most} bytes");
            Refusal::request(message)
                .with_status(StatusCode::PAYLOAD_TOO_LARGE)
                .with_hint("send fewer rows in one request")
        }
        status => Refusal::request("the body could not be read to its end").with_status(status),
    })
}

/// Reads a body of JSON.
///
/// # Errors
/// If the content type is another one, or the body is no such request.
pub fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Other types may be sent by any page in a browser without asking first.
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = format!("the content type is `{kind}`, expected `application/json`");
        return Err(Refusal::request(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body cannot be read: {error}");
        Refusal::request(message).with_hint("`GET /openapi.json` describes every request")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::wire::PredictRequest;

    fn of(kind: &'static str, body: &str) -> Result<PredictRequest, Refusal> {
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static(kind));
        read(&HeaderMap::from_iter([kind]), body.as_bytes())
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_in_a_sentence() {
        let json = "application/json; charset=utf-8";
        assert!(of(json, r#"{"prompts": ["a"]}"#).is_ok());
        let refused = of(json, r#"{"promts": ["a"]}"#).unwrap_err();
        assert!(refused.message.starts_with(
            "the body cannot be read: unknown field `promts`, expected one of `model`, `prompts`"
        ));
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.hint.unwrap().contains("/openapi.json"));
        assert!(of(json, "{").is_err());
        let refused = of("text/plain", "{}").unwrap_err();
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}

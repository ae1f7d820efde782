//! Redirects, and which server receives the token.

use super::*;
use crate::model::hub::testing::IncomingRequest;

const SECRET: &str = "hf_secret";

/// A content delivery network: every path that ends with the name of a file of the golden model is
/// that file.
fn network(cut_first: bool) -> Hub {
    Hub::serve(Content::golden().twisted(move |asked, content| {
        let (name, bytes) = content
            .files
            .get_key_value(asked.path.split(['?']).next()?.rsplit('/').next()?)?;
        let reply = Reply::file(name, bytes, asked);
        Some(if cut_first && asked.number == 0 {
            reply.cut(1000)
        } else {
            reply
        })
    }))
}

/// A hub that responds as huggingface.co does: small files by a relative redirect, weights by one
/// to another host.
fn hub_of(network: &Hub) -> Hub {
    let to = network.endpoint.clone();
    Hub::serve(
        Content {
            token: Some(SECRET),
            ..Content::golden()
        }
        .twisted(move |asked, content| {
            let name = asked.file()?;
            let size = content.files.get(name)?.len().to_string();
            if asked.path.starts_with("/api/resolve-cache/") {
                return Some(Reply::file(name, &content.files[name], asked));
            }
            let reply = if name.ends_with(".safetensors") {
                let reply = Reply::redirect("302 Found", format!("{to}/cdn/{COMMIT}/{name}?sig=1"));
                reply.header("X-Linked-Etag", format!("\"{}\"", "ab".repeat(32)))
            } else {
                Reply::redirect(
                    "307 Temporary Redirect",
                    format!("/api/resolve-cache/models/org/tiny/{COMMIT}/{name}"),
                )
            };
            Some(
                reply
                    .header("X-Linked-Size", size)
                    .header("X-Repo-Commit", COMMIT),
            )
        }),
    )
}

fn tokens(requests: &[IncomingRequest]) -> Vec<Option<&str>> {
    requests
        .iter()
        .map(|asked| asked.header("authorization"))
        .collect()
}

#[test]
fn the_token_does_not_leave_the_hub_with_a_redirect_a_retry_or_a_range() {
    for cut_first in [false, true] {
        let (network, cache) = (network(cut_first), tempfile::tempdir().unwrap());
        let hub = hub_of(&network);
        let settings = HubSettings {
            token: Some(SECRET.into()),
            ..hub.settings(cache.path())
        };
        let headers =
            crate::model::ModelHeaders::open("org/tiny", &settings, &mut |_| true).unwrap();
        assert!(!headers.has_weights());
        open("org/tiny", &settings).unwrap();
        let (at_hub, elsewhere) = (hub.requests(), network.requests());
        assert!(at_hub.len() >= 8, "{at_hub:?}");
        assert!(
            tokens(&at_hub)
                .iter()
                .all(|token| *token == Some("Bearer hf_secret"))
        );
        assert!(elsewhere.len() >= if cut_first { 3 } else { 2 });
        assert!(
            elsewhere
                .iter()
                .any(|asked| asked.header("range").is_some())
        );
        for asked in &elsewhere {
            // Nothing but what every user of this program sends.
            let names: Vec<&str> = asked.headers.keys().map(String::as_str).collect();
            let known = ["accept", "accept-encoding", "host", "range", "user-agent"];
            assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
            assert_eq!(
                asked.header("user-agent"),
                Some(concat!("ivon-lora/", env!("CARGO_PKG_VERSION")))
            );
        }
        // The blob has the name that the hub stated, so that other tools find it.
        assert!(
            cache
                .path()
                .join("models--org--tiny/blobs")
                .join("ab".repeat(32))
                .exists()
        );
    }
}

#[test]
fn a_mirror_may_send_on_to_another_hub_which_is_not_told_the_token() {
    let other = Hub::serve(Content::golden());
    let to = other.endpoint.clone();
    let mirror = Hub::serve(Content::golden().twisted(move |asked, _| {
        asked
            .file()
            .map(|_| Reply::redirect("308 Permanent Redirect", format!("{to}{}", asked.path)))
    }));
    let cache = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        token: Some(SECRET.into()),
        ..mirror.settings(cache.path())
    };
    assert_eq!(
        open("org/tiny", &settings).unwrap().names(),
        local().names()
    );
    assert!(tokens(&other.requests()).iter().all(Option::is_none));
    assert!(tokens(&mirror.requests()).iter().all(Option::is_some));

    let private = Hub::serve(Content {
        token: Some(SECRET),
        ..Content::golden()
    });
    let to = private.endpoint.clone();
    let mirror = Hub::serve(Content::golden().twisted(move |asked, _| {
        asked
            .file()
            .map(|_| Reply::redirect("308 Permanent Redirect", format!("{to}{}", asked.path)))
    }));
    let settings = HubSettings {
        token: Some(SECRET.into()),
        ..mirror.settings(tempfile::tempdir().unwrap().path())
    };
    let error = open("org/tiny", &settings).unwrap_err();
    assert!(
        error.to_string().contains("sent on to 127.0.0.1:"),
        "{error}"
    );
    assert!(
        error.hint().unwrap().contains("was not sent to 127.0.0.1:"),
        "{error:?}"
    );
}

#[test]
fn a_renamed_repository_is_found_under_its_old_name() {
    let hub = Hub::serve(Content::golden().twisted(|asked, _| {
        let renamed = asked
            .path
            .contains("/old/")
            .then(|| asked.path.replacen("/old/", "/tiny/", 1));
        renamed.map(|path| Reply::redirect("307 Temporary Redirect", path))
    }));
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(
        open("org/old", &hub.settings(cache.path()))
            .unwrap()
            .names(),
        local().names()
    );
    assert!(cache.path().join("models--org--old/refs/main").exists());
}

#[test]
fn a_redirect_without_an_address_or_without_an_end_is_a_sentence() {
    for (reply, reason) in [
        (
            Reply::status("302 Found"),
            "answered with status 302, a redirect without an address",
        ),
        (
            Reply::status("304 Not Modified"),
            "answered with status 304, a redirect without an address",
        ),
        (
            Reply::redirect("302 Found", "file:///etc/passwd"),
            "a redirect without an address",
        ),
        (Reply::redirect("302 Found", "\u{1}"), "failed, "),
        (
            Reply::redirect("302 Found", "#top"),
            "a redirect without an address",
        ),
    ] {
        let hub = Hub::serve(
            Content::golden().twisted(move |asked, _| asked.file().map(|_| reply.clone())),
        );
        let error = open(
            "org/tiny",
            &hub.settings(tempfile::tempdir().unwrap().path()),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains(reason) && error.hint().is_some(),
            "{error}"
        );
    }
    let circle = Hub::serve(
        Content::golden()
            .twisted(|asked, _| Some(Reply::redirect("302 Found", asked.path.clone()))),
    );
    let error = open(
        "org/tiny",
        &circle.settings(tempfile::tempdir().unwrap().path()),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("redirected more than 20 times"),
        "{error}"
    );
    assert_eq!(circle.requests().len(), 21);
}

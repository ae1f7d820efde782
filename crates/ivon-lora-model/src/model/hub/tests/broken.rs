//! Interrupted transfers, wrong responses, and read-only caches.

use super::*;
use crate::model::hub::testing::IncomingRequest;
use crate::watch::Event;

const WEIGHTS: &str = "model.safetensors";

/// A hub with this response to requests for the weights.
fn weights(
    content: Content,
    reply: impl Fn(&IncomingRequest, &[u8]) -> Reply + Send + Sync + 'static,
) -> Hub {
    Hub::serve(content.twisted(move |asked, content| {
        asked
            .file()
            .filter(|file| *file == WEIGHTS)
            .map(|_| reply(asked, &content.files[WEIGHTS]))
    }))
}

fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let requests = hub.requests();
    let of_weights = requests
        .iter()
        .filter(|asked| asked.file() == Some(WEIGHTS));
    of_weights
        .map(|asked| asked.header("range").map(str::to_string))
        .collect()
}

fn blobs(cache: &Path) -> Vec<String> {
    crate::files::names_in(&cache.join("models--org--tiny/blobs")).unwrap()
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let content = Content {
        says_hashes: true,
        ..Content::golden()
    };
    let hub = weights(content, |asked, bytes| {
        let reply = Reply::file(WEIGHTS, bytes, asked);
        if asked.number < 2 {
            reply.cut(1000)
        } else {
            reply
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let opened = open("org/tiny", &hub.settings(cache.path())).unwrap();
    assert_eq!(
        opened.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
    let range = |text: &str| Some(text.to_string());
    assert_eq!(
        ranges(&hub),
        [None, range("bytes=1000-"), range("bytes=2000-")]
    );
    assert!(
        blobs(cache.path())
            .iter()
            .all(|blob| !blob.ends_with(".incomplete"))
    );
}

#[test]
fn a_later_call_goes_on_where_an_earlier_one_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let dead = weights(Content::golden(), |asked, bytes| match asked.number {
        0 => Reply::file(WEIGHTS, bytes, asked).cut(3000),
        _ => Reply::status("503 Service Unavailable"),
    });
    let error = open("org/tiny", &dead.settings(cache.path())).unwrap_err();
    assert!(
        error.to_string().contains("answered with status 503"),
        "{error}"
    );
    assert_eq!(ranges(&dead).len(), 5);
    assert!(blobs(cache.path()).contains(&"etag-model.safetensors.incomplete".to_string()));
    let hub = Hub::serve(Content::golden());
    let opened = open("org/tiny", &hub.settings(cache.path())).unwrap();
    assert_eq!(
        opened.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
    assert_eq!(ranges(&hub), [None, Some("bytes=3000-".to_string())]);
}

#[test]
fn a_download_that_is_stopped_keeps_what_has_come() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::serve(Content::golden());
    let settings = hub.settings(cache.path());
    let mut stop = |event: Event<'_>| !matches!(event, Event::Received { file, received, .. } if file == WEIGHTS && received > 0);
    let error = Checkpoint::open_with("org/tiny", &settings, &mut stop).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the download of `{WEIGHTS}` was stopped")
    );
    assert!(blobs(cache.path()).contains(&"etag-model.safetensors.incomplete".to_string()));
    let opened = open("org/tiny", &settings).unwrap();
    assert_eq!(
        opened.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let hub = weights(Content::golden(), |asked, bytes| {
        let whole = IncomingRequest {
            headers: Default::default(),
            ..asked.clone()
        };
        let reply = Reply::file(WEIGHTS, bytes, &whole);
        if asked.number == 0 {
            reply.cut(1000)
        } else {
            reply
        }
    });
    let opened = open(
        "org/tiny",
        &hub.settings(tempfile::tempdir().unwrap().path()),
    )
    .unwrap();
    assert_eq!(
        opened.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
}

#[test]
fn what_has_grown_too_long_is_thrown_away() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let folder = cache.path().join("models--org--tiny/blobs");
    std::fs::create_dir_all(&folder).unwrap();
    for length in [1 << 20, Content::golden().files[WEIGHTS].len()] {
        let _ = std::fs::remove_dir_all(cache.path().join("models--org--tiny/snapshots"));
        let _ = std::fs::remove_file(folder.join("etag-model.safetensors"));
        std::fs::write(
            folder.join("etag-model.safetensors.incomplete"),
            vec![7; length],
        )
        .unwrap();
        let opened = open("org/tiny", &hub.settings(cache.path())).unwrap();
        assert_eq!(
            opened.fingerprint().unwrap(),
            local().fingerprint().unwrap()
        );
    }
}

#[test]
fn contents_that_are_not_what_the_hub_says_are_fetched_once_more_and_then_refused() {
    let changed = |always: bool| {
        weights(
            Content {
                says_hashes: true,
                ..Content::golden()
            },
            move |asked, bytes| {
                let mut bytes = bytes.to_vec();
                if always || asked.number == 0 {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                Reply::file(WEIGHTS, &bytes, asked)
            },
        )
    };
    let cache = tempfile::tempdir().unwrap();
    let hub = changed(true);
    let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`model.safetensors` came with the SHA-256 "),
        "{error}"
    );
    assert_eq!(ranges(&hub), [None, None]);
    assert_eq!(
        blobs(cache.path()),
        ["etag-config.json", "etag-tokenizer.json"]
    );
    let hub = changed(false);
    assert!(open("org/tiny", &hub.settings(cache.path())).is_ok());
}

#[test]
fn a_length_that_is_not_what_the_hub_says_is_refused() {
    let hub = weights(
        Content {
            says_hashes: true,
            ..Content::golden()
        },
        |asked, bytes| Reply::file(WEIGHTS, &bytes[1..], asked),
    );
    let cache = tempfile::tempdir().unwrap();
    let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`model.safetensors` is offered with"),
        "{error}"
    );
    assert!(
        !blobs(cache.path())
            .iter()
            .any(|blob| blob.contains("model"))
    );
    // A file that is always cut off is never complete, however often it is tried.
    let hub = weights(Content::golden(), |asked, bytes| {
        Reply::file(WEIGHTS, bytes, asked).cut(0)
    });
    let error = open("org/tiny", &hub.settings(cache.path())).unwrap_err();
    assert!(error.to_string().contains("the download from"), "{error}");
    assert_eq!(ranges(&hub).len(), 5);
}

#[test]
fn compressed_contents_are_refused_rather_than_stored() {
    let hub = weights(Content::golden(), |asked, bytes| {
        Reply::file(WEIGHTS, bytes, asked).header("Content-Encoding", "gzip")
    });
    let error = open(
        "org/tiny",
        &hub.settings(tempfile::tempdir().unwrap().path()),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("sent it compressed by `gzip`"),
        "{error}"
    );
}

#[test]
fn a_hub_that_does_not_answer_matters_only_where_the_cache_lacks_something() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    open("org/tiny", &settings).unwrap();
    let broken = Hub::serve(
        Content::default().twisted(|_, _| Some(Reply::status("503 Service Unavailable"))),
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for endpoint in [broken.endpoint.clone(), format!("http://{closed}")] {
        let away = HubSettings {
            endpoint,
            ..settings.clone()
        };
        let mut notes = Vec::new();
        let mut listen = |event: Event<'_>| {
            if let Event::Note(note) = event {
                notes.push(note.to_string());
            }
            true
        };
        assert_eq!(
            Checkpoint::open_with("org/tiny", &away, &mut listen)
                .unwrap()
                .names(),
            local().names()
        );
        assert!(
            notes[0].contains("revision `main` is taken from the cache"),
            "{notes:?}"
        );
        let error = open("org/tiny@v2", &away).unwrap_err();
        assert!(!error.to_string().contains("cache"), "{error}");
    }
    // A revision that the hub says does not exist is not taken from the cache.
    let empty = Hub::serve(Content::default().twisted(|_, _| Some(Reply::status("404 Not Found"))));
    assert!(
        open("org/tiny", &empty.settings(cache.path()))
            .unwrap_err()
            .to_string()
            .contains("knows no such model")
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_read_and_says_so_where_something_is_missing() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let settings = hub.settings(cache.path());
    open("org/tiny", &settings).unwrap();
    let folder = cache.path().join("models--org--tiny");
    // The tests may run as root, for whom permissions do not matter, so files stand where folders
    // have to be created.
    for name in ["refs", "blobs"] {
        std::fs::rename(folder.join(name), folder.join(format!("{name}-before"))).unwrap();
    }
    std::fs::write(folder.join("refs"), "").unwrap();
    let snapshot = folder.join("snapshots").join(COMMIT);
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        std::fs::remove_file(snapshot.join(name)).unwrap();
        std::fs::copy(
            folder.join("blobs-before").join(format!("etag-{name}")),
            snapshot.join(name),
        )
        .unwrap();
    }
    assert_eq!(
        open("org/tiny", &settings).unwrap().names(),
        local().names()
    );
    std::fs::write(folder.join("blobs"), "").unwrap();
    std::fs::remove_file(snapshot.join(WEIGHTS)).unwrap();
    let error = open("org/tiny", &settings).unwrap_err();
    assert!(
        error.to_string().contains("the cache cannot be written"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("HF_HOME"));
}

#[test]
fn a_file_that_another_process_downloads_is_waited_for() {
    let (hub, cache) = (Hub::serve(Content::golden()), tempfile::tempdir().unwrap());
    let locks = cache.path().join(".locks/models--org--tiny");
    std::fs::create_dir_all(&locks).unwrap();
    let lock = std::fs::File::create(locks.join("etag-model.safetensors.lock")).unwrap();
    lock.lock().unwrap();
    let blobs = cache.path().join("models--org--tiny/blobs");
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        // As every downloader into this cache does: whole under another name first, then renamed.
        std::fs::create_dir_all(&blobs).unwrap();
        let partial = blobs.join("etag-model.safetensors.incomplete");
        std::fs::write(&partial, &Content::golden().files[WEIGHTS]).unwrap();
        std::fs::rename(&partial, blobs.join("etag-model.safetensors")).unwrap();
        drop(lock);
    });
    let opened = open("org/tiny", &hub.settings(cache.path())).unwrap();
    other.join().unwrap();
    assert_eq!(
        opened.fingerprint().unwrap(),
        local().fingerprint().unwrap()
    );
}

#[test]
fn two_downloads_at_once_end_in_one_whole_model() {
    let (hub, cache) = (
        Hub::serve(Content {
            says_hashes: true,
            ..Content::golden()
        }),
        tempfile::tempdir().unwrap(),
    );
    let settings = hub.settings(cache.path());
    std::thread::scope(|scope| {
        let open = || open("org/tiny", &settings).unwrap().fingerprint().unwrap();
        let both = [scope.spawn(open), scope.spawn(open)];
        assert!(
            both.into_iter()
                .all(|one| one.join().unwrap() == local().fingerprint().unwrap())
        );
    });
}

#[test]
fn a_file_that_is_listed_and_not_there_is_named() {
    let hub = weights(Content::golden(), |_, _| Reply::status("404 Not Found"));
    let error = open(
        "org/tiny",
        &hub.settings(tempfile::tempdir().unwrap().path()),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`model.safetensors` is in the list of files and not there"),
        "{error}"
    );
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let silent = Hub::serve(Content::default().twisted(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        None
    }));
    let brief = std::time::Duration::from_millis(20);
    let cache = tempfile::tempdir().unwrap();
    let settings = HubSettings {
        answer_timeout: brief,
        read_timeout: brief,
        ..silent.settings(cache.path())
    };
    let started = std::time::Instant::now();
    let error = open("org/tiny", &settings).unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
    assert!(started.elapsed().as_secs() < 5);
}

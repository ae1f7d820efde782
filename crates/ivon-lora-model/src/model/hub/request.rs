//! One request to the hub, following redirects one by one, without disclosing the user's identity.
//!
//! The token is sent to the endpoint only: a redirect to another host, such as the content delivery
//! network, is followed without it. Nothing else in a request distinguishes one user from another.

use std::io::Read;

use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::listing::one_line;
use super::settings::HubSettings;
use crate::guard::guard;

/// The limit of `huggingface_hub`.
const MOST_REDIRECTS: usize = 20;

/// The hub's server.
#[derive(Debug)]
pub(super) struct Server<'a> {
    settings: &'a HubSettings,
    agent: Agent,
}

/// A range of bytes to request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub first: u64,
    /// Inclusive; to the end if absent.
    pub last: Option<u64>,
}

/// What the hub states about a file besides its contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// The ETag, which identifies the contents.
    pub etag: Option<String>,
    /// The size of the whole file in bytes.
    pub size: Option<u64>,
}

/// A response with contents.
#[derive(Debug)]
pub(super) struct Answer {
    pub facts: Facts,
    /// The position of the contents in the file.
    pub first: u64,
    body: Body,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// A status other than success.
    Status {
        code: u16,
        host: String,
        is_own: bool,
    },
    /// An invalid response.
    Answer { reason: String },
    /// No response, or not all of it; `is_passing` if a retry may help.
    Network { reason: String, is_passing: bool },
}

impl Facts {
    /// Records what a response on the way to a file states about it.
    fn learn(&mut self, answer: &Response<Body>) {
        let linked_etag = || etag(header(answer, "x-linked-etag")?);
        self.etag = self.etag.take().or_else(linked_etag);
        let linked_size = || header(answer, "x-linked-size")?.trim().parse().ok();
        self.size = self.size.or_else(linked_size);
    }
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

impl RequestError {
    /// A transfer that did not complete, but may do so when it is tried again.
    pub fn interrupted(reason: String) -> Self {
        Self::Network {
            reason,
            is_passing: true,
        }
    }
}

/// The target of a redirect, if the response is one.
fn redirect(address: &str, answer: &Response<Body>) -> Result<Option<String>, RequestError> {
    let status = answer.status();
    if !is_redirect(status) {
        return Ok(None);
    }
    let to = header(answer, "location").and_then(|location| joined(address, location));
    to.map(Some).ok_or_else(|| RequestError::Answer {
        reason: format!(
            "{} answered with status {}, a redirect without an address",
            host(address),
            status.as_u16()
        ),
    })
}

impl<'a> Server<'a> {
    pub fn new(settings: &'a HubSettings) -> Self {
        let patience = Some(settings.answer_timeout);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("ivon-lora/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_send_request(patience)
            .timeout_recv_response(patience.max(Some(settings.read_timeout)))
            .timeout_per_read(Some(settings.read_timeout))
            .build();
        Self {
            settings,
            agent: config.new_agent(),
        }
    }

    /// Requests a URL and follows redirects. `range` is called at each step with the facts known by
    /// then.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn get(
        &self,
        address: &str,
        range: &mut dyn FnMut(&Facts) -> Option<Range>,
    ) -> Result<Answer, RequestError> {
        let mut address = address.to_string();
        let mut facts = Facts::default();
        for _ in 0..=MOST_REDIRECTS {
            let asked = range(&facts);
            let answer = self.step(&address, asked)?;
            facts.learn(&answer);
            match redirect(&address, &answer)? {
                Some(to) => address = to,
                None => return self.accept(&address, answer, facts, asked),
            }
        }
        Err(RequestError::Answer {
            reason: format!("it redirected more than {MOST_REDIRECTS} times"),
        })
    }

    /// Checks a response that is not a redirect.
    fn accept(
        &self,
        address: &str,
        answer: Response<Body>,
        mut facts: Facts,
        asked: Option<Range>,
    ) -> Result<Answer, RequestError> {
        let (status, host) = (answer.status(), host(address));
        if !status.is_success() {
            return Err(RequestError::Status {
                code: status.as_u16(),
                is_own: self.is_own(address),
                host,
            });
        }
        let coding = header(&answer, "content-encoding");
        if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let coding = one_line(coding);
            let reason =
                format!("{host} sent it compressed by `{coding}`, which was not asked for");
            return Err(RequestError::Answer { reason });
        }
        let own_etag = || etag(header(&answer, "etag")?);
        facts.etag = facts.etag.take().or_else(own_etag);
        let length = answer.body().content_length();
        let (first, total) = extent(status, header(&answer, "content-range"), asked, length)
            .map_err(|reason| RequestError::Answer {
                reason: format!("{host} {reason}"),
            })?;
        match (facts.size, total) {
            (Some(said), Some(found)) if said != found => {
                let reason = format!("{host} has {found} bytes of it, expected {said}");
                return Err(RequestError::Answer { reason });
            }
            _ => facts.size = facts.size.or(total),
        }
        Ok(Answer {
            facts,
            first,
            body: answer.into_body(),
        })
    }

    /// One request, without following redirects.
    fn step(
        &self,
        address: &str,
        range: Option<Range>,
    ) -> Result<ureq::http::Response<Body>, RequestError> {
        let mut request = self.agent.get(address);
        if let Some(token) = self
            .settings
            .token
            .as_ref()
            .filter(|_| self.is_own(address))
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(Range { first, last }) = range {
            let last = last.map_or_else(String::new, |last| last.to_string());
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        match guard("ureq", || request.call()) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(network(&error)),
            Err(panicked) => Err(RequestError::Network {
                reason: panicked.to_string(),
                is_passing: false,
            }),
        }
    }

    /// Whether a URL is on the server for which the token is meant.
    fn is_own(&self, address: &str) -> bool {
        let Some(origin) = origin(address) else {
            return false;
        };
        let both = ["https://huggingface.co", "https://hf.co"].map(Some);
        let own = [Some(self.settings.endpoint.as_str()), None, None];
        let own = if self.settings.is_public() {
            [None, both[0], both[1]]
        } else {
            own
        };
        own.into_iter()
            .flatten()
            .any(|known| self::origin(known).as_ref() == Some(&origin))
    }
}

impl Answer {
    /// The contents, from `first` on.
    pub fn reader(&mut self) -> impl Read + '_ {
        Guarded(self.body.as_reader())
    }

    /// The whole contents.
    ///
    /// # Errors
    /// If there are more than `limit` bytes, or the transfer is interrupted.
    pub fn bytes(mut self, limit: u64) -> Result<Vec<u8>, RequestError> {
        let mut bytes = Vec::new();
        let read = self.reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| RequestError::Network {
            reason: error.to_string(),
            is_passing: true,
        })?;
        match bytes.len() as u64 > limit {
            true => Err(RequestError::Answer {
                reason: format!("it answered with more than {limit} bytes"),
            }),
            false => Ok(bytes),
        }
    }
}

/// A reader whose panics become errors.
struct Guarded<R>(R);

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        guard("ureq", || self.0.read(buffer))
            .map_err(|panicked| std::io::Error::other(panicked.to_string()))?
    }
}

fn is_redirect(status: StatusCode) -> bool {
    // Every 3xx except 304 "not modified", which was not requested and is refused as such.
    status.is_redirection()
}

/// An ETag without its quotes, as the name of a blob; `None` if it cannot be a file name.
fn etag(header: &str) -> Option<String> {
    let etag = header.trim().trim_start_matches("W/").trim_matches('"');
    Some(etag.to_string()).filter(|etag| etag.len() <= 128 && super::name::is_part(etag))
}

/// The position of the contents of a response in the file, and the length of the file.
fn extent(
    status: StatusCode,
    content_range: Option<&str>,
    asked: Option<Range>,
    length: Option<u64>,
) -> Result<(u64, Option<u64>), String> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Ok((0, length));
    }
    let wrong = || {
        format!(
            "answered with the range `{}`",
            one_line(content_range.unwrap_or_default())
        )
    };
    // `bytes FIRST-LAST/TOTAL`
    let (range, total) = content_range
        .and_then(|text| text.trim().strip_prefix("bytes ")?.split_once('/'))
        .ok_or_else(wrong)?;
    let first: u64 = range
        .split_once('-')
        .and_then(|(first, _)| first.trim().parse().ok())
        .ok_or_else(wrong)?;
    match asked {
        Some(asked) if asked.first == first => Ok((first, total.trim().parse().ok())),
        _ => Err(format!(
            "{}, expected one from byte {}",
            wrong(),
            asked.map_or(0, |asked| asked.first)
        )),
    }
}

fn network(error: &ureq::Error) -> RequestError {
    use std::io::ErrorKind;
    let is_passing = match error {
        ureq::Error::Io(error) => !matches!(error.kind(), ErrorKind::ConnectionRefused),
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::BodyStalled => true,
        _ => false,
    };
    RequestError::Network {
        reason: one_line(&error.to_string()),
        is_passing,
    }
}

/// Scheme, host and port of a URL.
fn origin(address: &str) -> Option<(String, String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    })?;
    Some((scheme, uri.host()?.to_lowercase(), port))
}

/// The host of a URL, for messages; a signed URL is itself a secret.
fn host(address: &str) -> String {
    let uri: Option<Uri> = address.parse().ok();
    let uri = uri.as_ref();
    let port = uri
        .and_then(Uri::port_u16)
        .map_or_else(String::new, |port| format!(":{port}"));
    uri.and_then(Uri::host)
        .map_or_else(|| "the server".into(), |host| format!("{host}{port}"))
}

/// The absolute URL of a redirect; `None` if it is not a web URL.
fn joined(base: &str, location: &str) -> Option<String> {
    let location: String = location
        .trim()
        .split('#')
        .next()
        .unwrap_or_default()
        .bytes()
        .map(graphic)
        .collect();
    let (scheme, rest) = base.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let path = rest[authority.len()..].split('?').next()?;
    let address = if location.is_empty() {
        return None;
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else if has_scheme(&location) {
        location
    } else {
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        format!("{scheme}://{authority}{folder}{location}")
    };
    let (scheme, ..) = origin(&address)?;
    ["http", "https"]
        .contains(&scheme.as_str())
        .then_some(address)
}

fn has_scheme(location: &str) -> bool {
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A byte in the form allowed in a URL.
fn graphic(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let base = "https://me@hub.org:81/o/n/resolve/x?y=1";
        for (location, expected) in [
            (
                "https://cdn.org/a?sig=1#top",
                Some("https://cdn.org/a?sig=1"),
            ),
            ("HTTP://cdn.org/a", Some("HTTP://cdn.org/a")),
            ("//cdn.org/a", Some("https://cdn.org/a")),
            ("/api/a", Some("https://me@hub.org:81/api/a")),
            ("a/b", Some("https://me@hub.org:81/o/n/resolve/a/b")),
            ("?z", Some("https://me@hub.org:81/o/n/resolve/x?z")),
            ("/a b\u{e9}", Some("https://me@hub.org:81/a%20b%C3%A9")),
            ("", None),
            ("file:///etc/passwd", None),
            ("javascript:x", None),
            ("https://", None),
        ] {
            assert_eq!(joined(base, location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn the_token_is_for_the_endpoint_alone() {
        let sees = |endpoint: &str, address: &str| {
            let settings = HubSettings {
                endpoint: endpoint.into(),
                ..HubSettings::default()
            };
            Server::new(&settings).is_own(address)
        };
        let public = "https://huggingface.co";
        for (endpoint, address, own) in [
            (public, "https://huggingface.co/o/n", true),
            (public, "https://HuggingFace.co:443/o/n", true),
            (public, "https://hf.co/o/n", true),
            (public, "http://huggingface.co/o/n", false),
            (public, "https://huggingface.co:8443/o/n", false),
            (public, "https://huggingface.co.evil.org/o/n", false),
            (public, "https://huggingface.co@evil.org/o/n", false),
            (public, "https://cdn-lfs.huggingface.co/o/n", false),
            ("https://mirror.org/hub", "https://mirror.org/api", true),
            ("https://mirror.org", "https://huggingface.co/o/n", false),
            ("http://127.0.0.1:81", "http://127.0.0.1:82/o/n", false),
            ("http://127.0.0.1:81", "http://localhost:81/o/n", false),
        ] {
            assert_eq!(sees(endpoint, address), own, "{endpoint} {address}");
        }
    }

    #[test]
    fn an_etag_names_a_blob_only_if_it_can_be_a_files_name() {
        assert_eq!(etag("W/\"abc-1\"").as_deref(), Some("abc-1"));
        for odd in [
            "\"../../x\"",
            "\"\"",
            "\"a/b\"",
            "\".\"",
            &format!("\"{}\"", "a".repeat(200)),
        ] {
            assert_eq!(etag(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_range_that_was_not_asked_for_is_refused() {
        let partial = |range: Option<&str>, asked: Option<u64>| {
            let asked = asked.map(|first| Range { first, last: None });
            extent(StatusCode::PARTIAL_CONTENT, range, asked, Some(5))
        };
        assert_eq!(partial(Some("bytes 5-9/10"), Some(5)), Ok((5, Some(10))));
        assert_eq!(partial(Some("bytes 5-9/*"), Some(5)), Ok((5, None)));
        for (range, asked) in [
            (Some("bytes 4-9/10"), Some(5)),
            (Some("bytes x"), Some(5)),
            (None, Some(5)),
            (Some("bytes 5-9/10"), None),
        ] {
            assert!(
                partial(range, asked)
                    .unwrap_err()
                    .starts_with("answered with the range")
            );
        }
        assert_eq!(
            extent(
                StatusCode::OK,
                None,
                Some(Range {
                    first: 5,
                    last: None
                }),
                Some(10)
            ),
            Ok((0, Some(10)))
        );
    }

    #[test]
    fn a_message_says_the_host_and_not_the_signed_address() {
        assert_eq!(
            host("https://me:pw@cdn.org:81/a?Signature=secret"),
            "cdn.org:81"
        );
    }
}

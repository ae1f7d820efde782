//! What the server counts, in the form that Prometheus reads.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the seconds of a request.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Upper bounds of the requests of a pass.
const TOGETHER: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    path: String,
    status: u16,
}

/// The label of what happens in one endpoint.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Path {
    path: String,
}

/// The counters of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Path, Histogram>,
    /// Requests whose answer is not there yet.
    pub in_flight: Gauge,
    /// Rows that were answered.
    pub rows: Counter,
    /// Tokens that were written.
    pub tokens: Counter,
    /// Sentences of the exchangeability tests, and about rows that were left out.
    pub warnings: Counter,
    /// Requests of a pass of predictions, and texts of a step of writing.
    pub together: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("ivon_lora"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            rows: Counter::default(),
            tokens: Counter::default(),
            warnings: Counter::default(),
            together: Histogram::new(TOGETHER),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let requests = self.requests.clone();
        registry.register("requests", "Requests by endpoint and status", requests);
        let seconds = self.seconds.clone();
        registry.register("request_seconds", "Seconds until the answer", seconds);
        let in_flight = self.in_flight.clone();
        registry.register(
            "requests_in_flight",
            "Requests without an answer yet",
            in_flight,
        );
        registry.register("rows", "Rows that were answered", self.rows.clone());
        let tokens = self.tokens.clone();
        registry.register("written_tokens", "Tokens that were written", tokens);
        let warnings = self.warnings.clone();
        registry.register("warnings", "Warnings about rows and decisions", warnings);
        let together = self.together.clone();
        registry.register("together", "Requests that were computed together", together);
    }

    /// Counts a request that was answered.
    pub fn answered(&self, path: &str, status: u16, took: Duration) {
        let path = path.to_string();
        self.requests
            .get_or_create(&Answered {
                path: path.clone(),
                status,
            })
            .inc();
        let seconds = self.seconds.get_or_create(&Path { path });
        seconds.observe(took.as_secs_f64());
    }

    /// All of them as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::default();
        metrics.rows.inc_by(3);
        metrics.answered("/v1/predict", 200, Duration::from_millis(7));
        let text = metrics.text();
        for line in [
            "ivon_lora_rows_total 3",
            "ivon_lora_requests_total{path=\"/v1/predict\",status=\"200\"} 1",
            "ivon_lora_request_seconds_bucket{le=\"0.01\",path=\"/v1/predict\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}

//! The server: addresses → handlers, which are thin over the models.

mod access;
mod predict;
mod text;
mod info;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::runtime;

use crate::error::ServeError;
use crate::models::Models;
use access::Access;

/// Seconds that requests have for their end after the server was told to stop.
const GRACE: u64 = 30;

/// What is known of a request that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// `GET` or `POST`.
    pub method: String,
    /// The address without what follows a question mark.
    pub path: String,
    /// The status.
    pub status: u16,
    /// Milliseconds until the answer, or until a stream began.
    pub milliseconds: u128,
}

/// Hears each request that was answered.
pub type Log = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// A server that listens.
pub struct Server {
    models: Arc<Models>,
    access: Arc<Access>,
    listener: std::net::TcpListener,
}

impl Server {
    /// Listens on an address. With a token only requests that have it are answered, but for
    /// `/healthz` and the page.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn listen(
        models: Models,
        address: &str,
        token: Option<&str>,
        log: Log,
    ) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen {
            address: address.into(),
            source,
        };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let models = Arc::new(models);
        let access = Access::new(token, log, Arc::clone(&models.metrics));
        Ok(Self {
            models,
            access: Arc::new(access),
            listener,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn address(&self) -> Result<SocketAddr, ServeError> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers requests until `goes_on` says no; then no new ones are taken, and those that were
    /// taken have 30 s for their end.
    ///
    /// # Errors
    /// If the operating system refuses a thread or the connection.
    pub fn run(self, goes_on: impl Fn() -> bool + Send + Sync + 'static) -> Result<(), ServeError> {
        let routes = routes(Arc::clone(&self.models), self.access);
        let threads = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let goes_on = Arc::new(goes_on);
        threads.block_on(async {
            let listener = TcpListener::from_std(self.listener)?;
            let told = stop(Arc::clone(&goes_on));
            let served = axum::serve(listener, routes).with_graceful_shutdown(told);
            tokio::select! {
                served = served => served,
                () = async {
                    stop(goes_on).await;
                    tokio::time::sleep(Duration::from_secs(GRACE)).await;
                } => Ok(()),
            }
        })?;
        Ok(())
    }
}

/// Returns when `goes_on` says no.
async fn stop(goes_on: Arc<impl Fn() -> bool>) {
    while goes_on() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn routes(models: Arc<Models>, access: Arc<Access>) -> Router {
    let body = models.limits().body;
    let watched = |router: Router| {
        let access = Arc::clone(&access);
        router.layer(middleware::from_fn_with_state(access, access::watched))
    };
    let guarded = Router::new()
        .route("/v1/predict", post(predict::predict))
        .route("/v1/chat/completions", post(text::chat))
        .route("/v1/completions", post(text::completion))
        .route("/v1/models", get(info::models))
        .route("/metrics", get(info::metrics))
        .layer(DefaultBodyLimit::max(body))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&access),
            access::guarded,
        ))
        .with_state(Arc::clone(&models));
    let open = Router::new()
        .route("/", get(info::page))
        .route("/healthz", get(info::health))
        .route("/openapi.json", get(info::description));
    watched(
        guarded
            .merge(open)
            .fallback(info::nothing_here)
            .method_not_allowed_fallback(info::other_method),
    )
}

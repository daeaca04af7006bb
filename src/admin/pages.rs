//! What there is to see, and the answers.

use prometheus_client::encoding::prometheus_text;

use super::http::Status;
use super::metrics;
use super::snapshot::Snapshot;

/// A resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Style,
    Script,
    Icon,
    Metrics,
    Stats,
    Health,
    Ready,
}

impl Route {
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/page.css" => Self::Style,
            "/page.js" => Self::Script,
            "/icon.svg" => Self::Icon,
            "/metrics" => Self::Metrics,
            "/api/stats" => Self::Stats,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            _ => return None,
        })
    }
}

/// Fills `body`, which is reused, and names its media type. `snapshot` is taken only where it is shown.
pub(super) fn answer(
    wanted: Result<Route, Status>,
    draining: bool,
    snapshot: impl FnOnce() -> Snapshot,
    body: &mut String,
) -> (Status, &'static str) {
    const TEXT: &str = "text/plain; charset=utf-8";
    body.clear();
    let (status, kind, text) = match wanted {
        Ok(Route::Page) => (Status::Ok, "text/html; charset=utf-8", include_str!("page/page.html")),
        Ok(Route::Style) => (Status::Ok, "text/css; charset=utf-8", include_str!("page/page.css")),
        Ok(Route::Script) => {
            (Status::Ok, "text/javascript; charset=utf-8", include_str!("page/page.js"))
        }
        Ok(Route::Icon) => (Status::Ok, "image/svg+xml", include_str!("page/icon.svg")),
        Ok(Route::Health) => (Status::Ok, TEXT, "ok\n"),
        Ok(Route::Ready) if draining => (Status::Unavailable, TEXT, "draining\n"),
        Ok(Route::Ready) => (Status::Ok, TEXT, "ready\n"),
        Ok(Route::Metrics) => {
            metrics::write(snapshot(), body);
            (Status::Ok, prometheus_text::CONTENT_TYPE, "")
        }
        Ok(Route::Stats) => {
            snapshot().write_json(body);
            (Status::Ok, "application/json", "")
        }
        Err(status) => {
            body.push_str(status.line());
            (status, TEXT, "\n")
        }
    };
    body.push_str(text);
    (status, kind)
}

//! The log: one line a second for what repeats.
//!
//! **In**: events of every module. **Out**: lines on stderr. **Owns**: what is held back, and how often. **Never**: drops the last
//! state of a thing without a word.

/// Which lines are held back; pure.
mod rate_limiter;

use clovisor_objects::printable::printable;
use rate_limiter::{Line, RateLimiter};
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Context, Filter};

/// Where lines about held back ones come from.
const TARGET: &str = "clovisor::repeated";

/// Fields that say which thing a line is about. Lines of one module about one thing are told once a second.
const IDENTITY: [&str; 15] = [
    "kind", "object", "field", "why", "link", "device", "program", "map", "mapping", "path", "stage", "what",
    "version", "point", "pin",
];

/// Holds back repeated lines at `info` and above; a filter of the layer that writes the log.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    limiter: Arc<Mutex<RateLimiter>>,
    held: Arc<Notify>,
}

impl Throttle {
    /// Tells what is held back, a second later at the latest; for ever.
    pub async fn run(self) {
        loop {
            self.held.notified().await;
            while !self.flush(Instant::now()) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Tells everything that is held back: at the end of the process.
    pub fn end(&self) {
        self.flush(Instant::now() + rate_limiter::SECOND);
    }

    /// Writes what is due; true if nothing is held back any more.
    fn flush(&self, now: Instant) -> bool {
        let (due, is_empty) = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            (limiter.due(now), limiter.is_empty())
        };
        for Line { level, message, fields, count } in due {
            match level {
                Level::ERROR => {
                    tracing::error!(target: TARGET, held_back = count, last = fields, "{message}")
                }
                Level::WARN => tracing::warn!(target: TARGET, held_back = count, last = fields, "{message}"),
                _ => tracing::info!(target: TARGET, held_back = count, last = fields, "{message}"),
            }
        }
        is_empty
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let module = metadata.target();
        // A line about nothing in particular is known by its place in the source.
        let key = match words.identity.is_empty() {
            true => format!("{module}:{}", metadata.line().unwrap_or_default()),
            false => format!("{module}{}", words.identity),
        };
        let Words { message, fields, .. } = words;
        let line = Line { level: *metadata.level(), message, fields, count: 0 };
        let admitted =
            self.limiter.lock().unwrap_or_else(PoisonError::into_inner).admit(key, line, Instant::now());
        if !admitted {
            self.held.notify_one();
        }
        admitted
    }
}

/// Fields for the text format, with what acts on a terminal or begins a line escaped: messages quote the objects of others.
#[must_use]
pub fn plain_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", printable(&text)),
            name => write!(writer, "{name}={}", printable(&text)),
        }
    })
    .delimited(" ")
}

/// An event as text.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    identity: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        // Writing to a String cannot fail.
        let _ok = match name {
            "message" => write!(self.message, "{value:?}"),
            _ if self.fields.is_empty() => write!(self.fields, "{name}={value:?}"),
            _ => write!(self.fields, " {name}={value:?}"),
        };
        if IDENTITY.contains(&name) {
            let _ok = write!(self.identity, " {name}={value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines of the text format.
    fn lines(throttle: &Throttle, events: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).without_time().fmt_fields(plain_fields());
        let layer = layer.with_writer(move || writer.clone()).with_filter(throttle.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), events);
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&bytes).split_terminator('\n').map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn names_of_objects_neither_begin_a_line_nor_act_on_the_terminal() {
        let name = "s9\r\nINFO all is well\u{1b}[2J\u{202e}";
        let lines = lines(&Throttle::default(), || {
            tracing::warn!(link = name, "one");
            tracing::warn!(path = %name, "two");
            tracing::warn!("three {name}");
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in lines {
            assert!(line.contains("\\r\\nINFO all is well\\u{1b}[2J\\u{202e}"), "{line}");
        }
    }

    #[test]
    fn a_flapping_link_is_told_once_a_second_with_its_last_state() {
        let throttle = Throttle::default();
        let lines = lines(&throttle, || {
            for _ in 0..15 {
                tracing::warn!(link = "s9", reason = "no carrier", "link down");
                tracing::info!(link = "s9", "link up");
            }
            tracing::warn!(link = "s8", reason = "no carrier", "link down");
            assert!(!throttle.flush(Instant::now()), "nothing is due within the second");
            throttle.end();
        });
        assert_eq!(
            lines,
            [
                "WARN clovisor_agent::log::tests: link down link=\"s9\" reason=\"no carrier\"",
                "WARN clovisor_agent::log::tests: link down link=\"s8\" reason=\"no carrier\"",
                "INFO clovisor::repeated: link up held_back=29 last=\"link=\\\"s9\\\"\"",
            ]
        );
    }
}

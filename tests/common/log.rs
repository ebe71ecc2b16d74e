//! What is logged in this process.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What an event says.
#[derive(Default)]
pub struct Line {
    pub message: String,
    /// The message and everything else, each as ` name=value`.
    pub fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").expect("memory");
        }
        write!(self.fields, " {field}={value:?}").expect("memory");
    }
}

struct Log {
    wanted: fn(&Metadata<'_>) -> bool,
    told: fn(Line),
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.wanted)(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        (self.told)(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// From now on `told` is given each event that is `wanted`. Once in a process.
pub fn listen(wanted: fn(&Metadata<'_>) -> bool, told: fn(Line)) {
    tracing::subscriber::set_global_default(Log { wanted, told }).expect("nobody else listens");
}

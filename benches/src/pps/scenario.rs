//! What load the contenders are put under.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Load, Style};
use super::servers::{Mode, Wait};

/// Flows and how many datagrams each keeps in flight, as in `64x16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shape {
    /// Flows; in a fan-out, listeners. 1 to 16,000.
    pub flows: u32,
    /// Datagrams in flight of each; in a fan-out, publications in flight. 1 to 1,024.
    pub window: u32,
}

/// A load, and how both ends wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Flows and window.
    pub shape: Shape,
    /// What the server does.
    #[serde(default = "Scenario::echo")]
    pub mode: Mode,
    /// Bytes of a datagram, 16 to 65,000.
    #[serde(default = "Scenario::small")]
    pub size: usize,
    /// How the client sends and receives.
    #[serde(default = "Scenario::plain")]
    pub client: Style,
    /// How the server waits.
    #[serde(default = "Scenario::block")]
    pub wait: Wait,
    /// How the client waits, if not as the server does.
    #[serde(default)]
    pub client_wait: Option<Wait>,
    /// A closed loop, or how much a second.
    #[serde(default)]
    pub rate: Rate,
}

/// How much is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// As much as comes back.
    #[default]
    Closed,
    /// For all the same: half of what the slowest of them can do in a closed loop of that shape.
    HalfOfSlowest,
}

/// Why a word is no shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoShape(String);

impl fmt::Display for NoShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not FLOWSxWINDOW with 1 to 16,000 flows and a window of 1 to 1,024, as 64x16 is",
            self.0
        )
    }
}

impl std::error::Error for NoShape {}

impl FromStr for Shape {
    type Err = NoShape;

    fn from_str(text: &str) -> Result<Self, NoShape> {
        let parse = || {
            let (flows, window) = text.split_once('x')?;
            let shape = Self { flows: flows.parse().ok()?, window: window.parse().ok()? };
            ((1..=16_000).contains(&shape.flows) && (1..=1024).contains(&shape.window)).then_some(shape)
        };
        parse().ok_or_else(|| NoShape(text.to_owned()))
    }
}

impl TryFrom<String> for Shape {
    type Error = NoShape;

    fn try_from(text: String) -> Result<Self, NoShape> {
        text.parse()
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        shape.to_string()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.flows, self.window)
    }
}

impl Scenario {
    /// Echo of 64 bytes, with a plain client, both ends blocking, in a closed loop.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            mode: Self::echo(),
            size: Self::small(),
            client: Self::plain(),
            wait: Self::block(),
            client_wait: None,
            rate: Rate::Closed,
        }
    }

    fn echo() -> Mode {
        Mode::Echo
    }

    fn small() -> usize {
        64
    }

    fn plain() -> Style {
        Style::Plain
    }

    fn block() -> Wait {
        Wait::Block
    }

    /// A word for file names and headings: everything that differs from [`Scenario::new`].
    #[must_use]
    pub fn name(&self) -> String {
        let plain = Self::new(self.shape);
        let mut name = self.shape.to_string();
        let mut add = |differs: bool, word: String| {
            if differs {
                name = format!("{name}-{word}");
            }
        };
        add(self.mode != plain.mode, self.mode.to_string());
        add(self.size != plain.size, self.size.to_string());
        add(self.client != plain.client, self.client.to_string());
        add(self.wait != plain.wait, self.wait.to_string());
        add(
            self.client_wait.is_some_and(|wait| wait != self.wait),
            format!("client-{}", self.client_waits()),
        );
        add(self.rate != plain.rate, "half-rate".to_owned());
        name
    }

    fn client_waits(&self) -> Wait {
        self.client_wait.unwrap_or(self.wait)
    }

    /// Why it makes no sense, if it does not.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if !(16..=65_000).contains(&self.size) {
            Some("datagrams have 16 to 65,000 bytes")
        } else if self.rate != Rate::Closed && self.mode != Mode::Echo {
            Some("only an echo has a rate")
        } else if self.mode == Mode::Fanout && self.client == Style::Offload {
            Some("a fan-out sends no trains")
        } else {
            None
        }
    }

    /// What the client is told; with a rate, if there is one.
    #[must_use]
    pub fn load(&self, time: Duration, rate: Option<u64>) -> Load {
        Load {
            mode: self.mode,
            flows: self.shape.flows,
            window: self.shape.window,
            size: self.size,
            style: self.client,
            wait: self.client_waits(),
            time,
            rate,
        }
    }

    /// The long form.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { mode, size, client, wait, .. } = self;
        let Shape { flows, window } = self.shape;
        let load = match (mode, self.rate) {
            (Mode::Fanout, _) => format!("fan-out to {flows} peers, {window} in flight"),
            (_, Rate::HalfOfSlowest) => {
                format!("{mode}, {flows} flows, half the rate of which the slowest is capable")
            }
            _ => format!("{mode}, {flows} flows x {window} in flight"),
        };
        let client_waits = self.client_waits();
        format!("{load}, {size} bytes, {client} client, server: {wait}, client: {client_waits}")
    }
}

fn of(flows: u32, window: u32) -> Scenario {
    Scenario::new(Shape { flows, window })
}

/// The shapes of a closed loop.
pub const SHAPES: [(u32, u32); 9] =
    [(1, 1), (1, 64), (16, 64), (64, 16), (64, 4), (64, 1), (1000, 1), (10_000, 1), (15_000, 1)];

/// What is run without further options.
#[must_use]
pub fn standard() -> Vec<Scenario> {
    let offload = |scenario| Scenario { client: Style::Offload, ..scenario };
    let mut all: Vec<_> = SHAPES.into_iter().map(|(flows, window)| of(flows, window)).collect();
    all.extend([(1, 64), (16, 64), (64, 16)].map(|(flows, window)| offload(of(flows, window))));
    for size in [512, 1200, 8192] {
        let sized = Scenario { size, ..of(64, 16) };
        all.extend([sized.clone(), offload(sized)]);
    }
    all.push(Scenario { wait: Wait::Spin, ..of(1, 1) });
    all.push(Scenario { wait: Wait::Spin, client_wait: Some(Wait::Block), ..of(1, 1) });
    all.push(Scenario { wait: Wait::Spin, ..of(64, 16) });
    all.push(Scenario { mode: Mode::Sink, ..of(64, 16) });
    all.push(Scenario { mode: Mode::Sink, ..offload(of(64, 16)) });
    all.push(Scenario { mode: Mode::Fanout, size: 1200, ..of(1000, 1) });
    all.push(Scenario { rate: Rate::HalfOfSlowest, ..of(64, 16) });
    all
}

/// What `--quick` runs.
#[must_use]
pub fn quick() -> Vec<Scenario> {
    vec![of(1, 1), of(64, 16), Scenario { client: Style::Offload, ..of(16, 64) }]
}

#[cfg(test)]
mod tests {
    use super::{Rate, Scenario, Shape, quick, standard};

    #[test]
    fn shapes_are_read_and_bounded() {
        assert_eq!("64x16".parse(), Ok(Shape { flows: 64, window: 16 }));
        for wrong in ["", "64", "0x1", "1x0", "16001x1", "1x1025", "1x1x1", "-1x1"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_tell_scenarios_apart() {
        let all = standard();
        let mut names: Vec<_> = all.iter().map(Scenario::name).collect();
        assert!(names.contains(&"64x16-1200-offload".to_owned()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().chain(&quick()).all(|scenario| scenario.fault().is_none()));
    }

    #[test]
    fn nonsense_is_said_to_be() {
        let mut scenario = Scenario::new(Shape { flows: 1, window: 1 });
        scenario.size = 15;
        assert!(scenario.fault().is_some());
        scenario = Scenario { size: 64, mode: super::Mode::Sink, rate: Rate::HalfOfSlowest, ..scenario };
        assert!(scenario.fault().is_some());
    }
}

//! Whether the kernel is given several datagrams at once (UDP_SEGMENT and UDP_GRO, udp(7)).

use std::str::FromStr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offload {
    /// Each datagram by itself.
    Off,
    /// Trains where they form and the system takes them.
    Auto,
    /// The same, and a run in which none left has failed.
    On,
}

impl Offload {
    pub(crate) fn uses_trains(self) -> bool {
        self != Self::Off
    }
}

impl FromStr for Offload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            _ => Err("it is on, off or auto".to_owned()),
        }
    }
}

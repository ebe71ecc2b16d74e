//! What a configuration asks for and a system cannot do.

use shardgram_core::PathMtu;

use super::{Fact, Os};
use crate::SocketOptions;

/// A setting that was asked for and that a system cannot honour. The message is one line: the cause, then the remedy.
///
/// ```
/// use shardgram_sys::plan::Os;
/// use shardgram_sys::SocketOptions;
/// let asked = SocketOptions { receive_timestamps: true, ..SocketOptions::default() };
/// let error = Os::FreeBsd.check(&asked, false).unwrap_err();
/// assert_eq!(error.setting, "receive_timestamps");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting}={value} was asked for and cannot be had on {os}: {because}; {remedy}")]
pub struct Unsupported {
    /// The setting of the configuration.
    pub setting: &'static str,
    /// What it was set to.
    pub value: String,
    /// The system.
    pub os: Os,
    /// Why it cannot.
    pub because: &'static str,
    /// What to ask for instead.
    pub remedy: &'static str,
}

impl Os {
    /// Whether what sockets of one family are to be opened with can be had; the family is that of an address listened
    /// on.
    ///
    /// # Errors
    /// The first setting that was asked for in vain. What only a default asks for is no error: see [`Os::downgrades`].
    pub fn check(self, asked: &SocketOptions, ipv6: bool) -> Result<(), Unsupported> {
        let refuse = |setting, value: String, fact: Fact<bool>, remedy| {
            let Fact { is, because } = fact;
            if is { Ok(()) } else { Err(Unsupported { setting, value, os: self, because, remedy }) }
        };
        let yes = || "true".to_owned();
        if asked.receive_timestamps {
            let times = self.receive_timestamps();
            refuse("receive_timestamps", yes(), times, "leave it off and take the time in the handler")?;
        }
        if asked.ecn {
            refuse("ecn", yes(), self.ecn(ipv6), "leave it off, or listen on IPv6 if that reports it")?;
        }
        if !asked.multicast_loop {
            let remedy = "leave it on, and drop what this host's own addresses send to groups";
            refuse("multicast_loop", "false".to_owned(), self.loop_is_the_senders(), remedy)?;
        }
        let mode = asked.path_mtu;
        let (kept, remedy) = match mode {
            PathMtu::System => return Ok(()),
            PathMtu::Fragment => {
                (self.may_fragment(ipv6), "ask for system, or send what no path has to fragment")
            }
            PathMtu::Probe => (self.probes(ipv6), "ask for system"),
            _ => (self.learns_path_mtu(), "ask for probe, or for system"),
        };
        refuse("path_mtu", mode.to_string(), kept, remedy)
    }

    /// As [`Os::check`], where a sandbox or a compatibility layer refuses the socket options by which what is received says
    /// more than its payload, and a driver has no other way.
    ///
    /// # Errors
    /// The first setting that was asked for in vain.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// use shardgram_sys::SocketOptions;
    /// let asked = SocketOptions { ecn: true, ..SocketOptions::default() };
    /// assert_eq!(Os::Linux.check_without_control(&asked).unwrap_err().setting, "ecn");
    /// ```
    pub fn check_without_control(self, asked: &SocketOptions) -> Result<(), Unsupported> {
        let settings = [("receive_timestamps", asked.receive_timestamps), ("ecn", asked.ecn)];
        match settings.into_iter().find(|(_, asked)| *asked) {
            None => Ok(()),
            Some((setting, _)) => Err(Unsupported {
                setting,
                value: "true".to_owned(),
                os: self,
                because: "a socket option for packet info is refused here, as by a sandbox",
                remedy: "leave it off, or have the option allowed (IP_PKTINFO and IPV6_RECVPKTINFO on Linux)",
            }),
        }
    }

    /// What a default asks for and the system does otherwise, in a line each; the family is that of an address listened
    /// on, and `wildcard` says whether it is every address.
    ///
    /// ```
    /// use shardgram_sys::plan::Os;
    /// use shardgram_sys::SocketOptions;
    /// assert!(Os::Linux.downgrades(&SocketOptions::default(), false, true).is_empty());
    /// assert_eq!(Os::MacOs.downgrades(&SocketOptions::default(), false, true).len(), 1);
    /// ```
    #[must_use]
    pub fn downgrades(self, asked: &SocketOptions, ipv6: bool, wildcard: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let fragments = self.may_fragment(ipv6);
        if asked.path_mtu == PathMtu::System && !fragments.is {
            let because = fragments.because;
            lines.push(format!(
                "path_mtu=system serves as probe on {self}: {because}; ask for probe to agree"
            ));
        }
        let source = self.source_selection();
        if wildcard && !ipv6 && !source.is {
            let because = source.because;
            lines.push(format!(
                "answers may leave from another address than was written to on {self}: {because}; listen on each \
                 address of this host"
            ));
        }
        lines
    }

    /// Whether the sending socket decides if its own host hears what it sends to groups.
    pub(super) const fn loop_is_the_senders(self) -> Fact<bool> {
        match self {
            Self::Windows => Fact {
                is: false,
                because: "IP_MULTICAST_LOOP is there for the receiving socket to decide what it hears of its own host",
            },
            _ => Fact {
                is: true,
                because: "IP_MULTICAST_LOOP and IPV6_MULTICAST_LOOP are the sending socket's",
            },
        }
    }

    /// Whether only what the interface itself cannot carry fails.
    pub(super) const fn probes(self, ipv6: bool) -> Fact<bool> {
        match self {
            Self::Linux => Fact { is: true, because: "IP_PMTUDISC_PROBE, ip(7)" },
            Self::OpenBsd | Self::NetBsd if !ipv6 => {
                Fact { is: false, because: "IPv4 sockets have no option that forbids fragmentation" }
            }
            Self::Windows => Fact { is: false, because: "fragmentation is left as the system has it" },
            Self::Other => Fact { is: false, because: "the system is not known to forbid fragmentation" },
            _ => Fact { is: true, because: "IP_DONTFRAG and IPV6_DONTFRAG" },
        }
    }

    /// Whether the kernel refuses what is longer than the path it learned of.
    pub(super) const fn learns_path_mtu(self) -> Fact<bool> {
        match self {
            Self::Linux => Fact { is: true, because: "IP_PMTUDISC_DO, ip(7)" },
            _ => Fact {
                is: false,
                because: "no socket option has the kernel refuse by what routers said of a path",
            },
        }
    }
}

//! What the mio driver can do on each system, as far as the system decides.

use shardgram_core::Capability::{self, *};

use super::{Balancing, Fact, Os, Sharing};

impl Os {
    /// What a driver can do here that waits for readiness and makes a call for each batch. The reasons of what is missing
    /// stand in the rows it follows from.
    ///
    /// ```
    /// use shardgram_core::Capability;
    /// use shardgram_sys::plan::{Os, Sharing};
    /// assert!(Os::FreeBsd.able(Sharing::PerShard).contains(&Capability::BalancedListeners));
    /// assert!(!Os::FreeBsd.able(Sharing::OneReceiver).contains(&Capability::BalancedListeners));
    /// ```
    #[must_use]
    pub fn able(self, sharing: Sharing) -> Vec<Capability> {
        let both = |of: fn(Self, bool) -> Fact<bool>| of(self, false).is && of(self, true).is;
        let balancing = match sharing {
            Sharing::PerShard => self.balancing().is,
            Sharing::OneReceiver => Balancing::Nobody,
        };
        let marks = both(Self::ecn);
        let modes = both(Self::may_fragment) && both(Self::probes) && self.learns_path_mtu().is;
        let all = [
            (TrainsIn, self.trains_in().is),
            (EcnOut, marks),
            (EcnIn, marks),
            (Timestamps, self.receive_timestamps().is),
            (PathMtu, modes),
            (KernelDrops, self.drop_counter().is),
            (BalancedListeners, balancing != Balancing::Nobody),
            (SteeredListeners, balancing == Balancing::Program),
            (Backlog, true),
        ];
        all.into_iter().filter_map(|(capability, able)| able.then_some(capability)).collect()
    }

    /// As [`Os::able`], where a sandbox or a compatibility layer refuses what quinn-udp needs: what comes says nothing
    /// beside its payload.
    ///
    /// ```
    /// use shardgram_core::Capability;
    /// use shardgram_sys::plan::{Os, Sharing};
    /// let able = Os::Windows.able_without_control(Sharing::OneReceiver);
    /// assert!(able.contains(&Capability::Backlog) && !able.contains(&Capability::EcnIn));
    /// ```
    #[must_use]
    pub fn able_without_control(self, sharing: Sharing) -> Vec<Capability> {
        let mut able = self.able(sharing);
        able.retain(|capability| match capability {
            TrainsIn | EcnIn | Timestamps => false,
            // Where trains leave, the driver writes control messages itself.
            EcnOut => self.trains_out().is,
            _ => true,
        });
        able
    }
}

//! Opening a shard's flows.

use std::time::Instant;

use shardgram::{Context, TimerId, Via};

use super::super::flow::Flow;
use super::super::link::Event;
use super::{Alarm, Client, Lane, OPEN_STEP, Phase, Place, Stage, TICK};

impl Client {
    /// Asks for some more flows. The sockets are opened between turns, so the last ones are there one turn
    /// after they were asked for.
    pub(super) fn open_some(&mut self, cx: &mut Context<'_, Self>) {
        let left = self.own_flows() - self.lanes.len();
        let last = self.lanes.last().map(|lane| lane.endpoint);
        if left == 0 && last.is_none_or(|last| cx.io.endpoint_address(last).is_some()) {
            return self.subscribe(cx);
        }
        for _ in 0..left.min(OPEN_STEP) {
            match self.open_one(cx) {
                Ok(lane) if self.subscribes(self.lanes[lane as usize].number) => {}
                Ok(lane) => self.active.push(lane),
                Err(cause) => return self.refuse(cause),
            }
        }
        self.work_at_once(cx);
    }

    /// Asks for a flow; gives its lane.
    pub(super) fn open_one(&mut self, cx: &mut Context<'_, Self>) -> Result<u32, String> {
        const FULL: &str =
            "too many flows wait for their last replies; take fewer --new-flows or a shorter --timeout";
        let (target, number) = (self.plan().target, self.next_number());
        let endpoint = cx.io.endpoint(self.plan().endpoint(number)).map_err(|_| FULL)?;
        let lane = self.vacant.last().copied().unwrap_or(self.lanes.len() as u32);
        let peer = match cx.open(Via::Endpoint(endpoint), target, lane) {
            Ok(peer) => peer,
            Err(error) => {
                cx.close_endpoint(endpoint);
                return Err(error.to_string());
            }
        };
        self.opened = self.opened.wrapping_add(1);
        let flow = Flow::new(self.window(), self.plan().remembered());
        let state =
            Lane { peer, endpoint, number, flow, stage: Stage::Opening, subscribed: false, seen: Vec::new() };
        match self.vacant.pop() {
            Some(vacant) => self.lanes[vacant as usize] = state,
            None => self.lanes.push(state),
        }
        Ok(lane)
    }

    /// The flow of this lane may send.
    pub(super) fn start_lane(&mut self, lane: u32) {
        let window = self.window() as u16;
        let state = &mut self.lanes[lane as usize];
        state.stage = Stage::Active;
        let number = state.number;
        self.free.extend((0..window).map(|slot| Place { lane, number, slot }));
    }

    pub(super) fn refuse(&mut self, cause: String) {
        self.phase = Phase::Done;
        self.tell(Event::Refused(cause));
    }

    pub(super) fn set(&self, cx: &mut Context<'_, Self>, at: Instant, alarm: Alarm) -> TimerId {
        cx.io.set_timer(at, alarm).expect("a handful of timers")
    }

    /// Has a turn begin at this time, so that it ends with more work done.
    pub(super) fn work_at(&mut self, cx: &mut Context<'_, Self>, at: Instant) {
        if let Some(before) = self.work.replace(self.set(cx, at, Alarm::Work)) {
            cx.io.cancel(before);
        }
    }

    /// The same, without any sleep: timers keep to ticks, so one for this moment may be a little ahead.
    pub(super) fn work_at_once(&mut self, cx: &mut Context<'_, Self>) {
        let now = cx.io.now();
        self.work_at(cx, now.checked_sub(TICK).unwrap_or(now));
    }
}

/// What to do where all ports that sockets get by themselves are taken.
pub(crate) const NO_PORT: &str = "no port is free: widen the range of local ports (on Linux net.ipv4.ip_local_port_range), or take \
                                  fewer --flows or --new-flows";

/// Why a socket could not be opened, by the numbers that Linux, macOS and the BSDs give.
pub(super) fn not_opened(errno: i32) -> String {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const EADDRINUSE: [i32; 2] = [98, 48];
    const EAFNOSUPPORT: [i32; 2] = [97, 47];
    const EADDRNOTAVAIL: [i32; 2] = [99, 49];
    let cause = std::io::Error::from_raw_os_error(errno);
    let remedy = match errno {
        EMFILE => "raise the limit of descriptors with `ulimit -n` or take fewer --flows",
        ENFILE => "raise the system's limit of descriptors (fs.file-max) or take fewer --flows",
        errno if EADDRINUSE.contains(&errno) => NO_PORT,
        errno if EAFNOSUPPORT.contains(&errno) || EADDRNOTAVAIL.contains(&errno) => {
            "this host does not have the target's kind of address: name the server by its address of the other kind \
             (IPv4 or IPv6), or turn that kind on"
        }
        _ => "see what the system says",
    };
    format!("a flow's socket cannot be opened ({cause}); {remedy}")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_remedy() {
        for (errno, cause, remedy) in [
            (24, "Too many open files", "ulimit -n"),
            (98, "Address already in use", "net.ipv4.ip_local_port_range"),
            (97, "Address family not supported", "of the other kind"),
            (99, "Cannot assign requested address", "of the other kind"),
        ] {
            let text = not_opened(errno);
            assert!(text.contains(cause) && text.contains(remedy), "{text}");
            assert_eq!(text.contains("--flows"), matches!(errno, 24 | 98), "{text}");
        }
    }
}

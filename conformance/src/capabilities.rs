//! What a driver says that it can do is what the table expects of it: no more, and no less.
use std::sync::mpsc::{Sender, channel};

use super::{Bed, loopback};
use shardgram_core::driver::Capabilities;
use shardgram_core::{Accept, Capability, Context, Datagram, Handler};

/// Tells what its driver says.
struct Asker(Sender<Capabilities>);

impl Handler for Asker {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let _ = self.0.send(cx.io.capabilities());
    }
}

/// What the driver says it can do.
pub(super) fn of<B: Bed>(bed: &mut B) -> Capabilities {
    let (sender, told) = channel();
    let server = bed.serve(loopback(), move |_| Asker(sender.clone()));
    let able = bed.hear(&told);
    bed.drain(server);
    able
}

pub fn are_those_of_the_table<B: Bed>(mut bed: B) {
    let able = of(&mut bed);
    for capability in Capability::ALL {
        let expected = bed.expected(capability);
        let wanted = expected.reason().is_none();
        assert_eq!(able.has(capability), wanted, "{capability}: the table says {expected:?}");
    }
}

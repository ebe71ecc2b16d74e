//! shardgram, by its public interface and with its defaults, but for the size of socket buffers, which all have.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use shardgram::{
    Accept, Backend, Config, Context, Datagram, Handler, PeerId, ReceivedTrain, Server, TierPolicy,
    WaitPolicy,
};

use super::{Mode, Task, Wait, announce};
use crate::pps::system::SOCKET_BYTES;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

struct App {
    mode: Mode,
    tally: Tally,
}

impl Handler for App {
    /// Whether it registered.
    type Peer = bool;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<bool> {
        Accept::Peer(Kind::of(first) == Kind::Register)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        self.tally.saw(&datagram);
        if self.mode == Mode::Fanout && Kind::of(&datagram) == Kind::Publish {
            let Ok(payload) = cx.io.share(&datagram) else { return }; // a refusal shows as loss
            for (peer, registered) in cx.peers.iter() {
                if *registered {
                    let _ = cx.io.send_shared(peer, payload);
                }
            }
        } else if self.mode != Mode::Sink {
            let len = datagram.len();
            let _ = cx.io.reply(datagram, len);
        }
    }

    /// Trains go back whole, as in the other contenders that take them.
    const WHOLE_TRAINS: bool = true;

    fn on_train(&mut self, cx: &mut Context<'_, Self>, from: PeerId, train: ReceivedTrain<'_>) {
        if self.mode == Mode::Echo {
            self.tally.saw_train(&train, train.segment());
            let _ = cx.io.reply_train(train);
        } else {
            train.into_iter().for_each(|datagram| self.on_datagram(cx, from, datagram));
        }
    }
}

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let config = Config::new()
        .listen(([127, 0, 0, 1], 0).into())
        .cores([task.core])
        .receive_socket_bytes(SOCKET_BYTES)
        .send_socket_bytes(SOCKET_BYTES)
        .wait(match task.wait {
            Wait::Block => WaitPolicy::Block,
            Wait::Spin => WaitPolicy::Spin,
        });
    let (backend, tier) = match task.contender.as_str() {
        "shardgram-uring-listener" => (Backend::Uring, TierPolicy::Listener),
        "shardgram-uring-connected" => (Backend::Uring, TierPolicy::Connected),
        "shardgram-uring-adaptive" => (Backend::Uring, TierPolicy::Adaptive),
        "shardgram-mio" => (Backend::Mio, TierPolicy::Listener),
        name => return Err(format!("no contender is called {name}").into()),
    };
    let config = config.backend(backend).tier(tier);
    let config = match tier {
        TierPolicy::Listener => config,
        // One more for the publisher of a fan-out.
        _ => config.max_connected(task.peers + 1).max_connected_per_address(task.peers + 1),
    };
    let server = Server::bind(config)?;
    server.warnings().iter().for_each(|warning| eprintln!("{warning}"));
    let address = server.local_addrs()[0];
    // One shard, so it is taken once; a handler that panicked is not replaced.
    let (mode, tally) = (task.mode, Mutex::new(Some(tally)));
    let handle = server.spawn(move |_| {
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).take();
        App { mode, tally: tally.expect("one shard that never restarts") }
    })?;
    announce(address);
    handle.wait()?;
    Ok(())
}

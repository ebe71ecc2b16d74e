//! How the handlers of a node are: what they may do in callbacks, and how often.

use crate::dice::Dice;
use crate::groups::Everywhere;
use crate::part::Part;

/// What a handler may do in a callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Send,
    SendToOther,
    SendToStale,
    SendTooLong,
    Slot,
    SlotDropped,
    SlotTooLong,
    Share,
    ShareStale,
    Close,
    CloseOther,
    CloseWhileWalking,
    SetTimer,
    SetPeerTimer,
    Cancel,
    Tell,
    TellNowhere,
    OpenEndpoint,
    OpenByEndpoint,
    OpenByListener,
    OpenWrongly,
    CloseEndpoint,
    Promote,
    Demote,
    Mark,
    Validate,
    UsePath,
    UseWrongPath,
    Cookie,
    Answer,
    AnswerNobody,
    Dial,
    Redial,
    Join,
    JoinWrongly,
    Leave,
}

const ACTS: [(Act, Option<Part>); 36] = [
    (Act::Send, None),
    (Act::SendToOther, None),
    (Act::SendToStale, None),
    (Act::SendTooLong, None),
    (Act::Slot, None),
    (Act::SlotDropped, None),
    (Act::SlotTooLong, None),
    (Act::Share, None),
    (Act::ShareStale, None),
    (Act::Close, None),
    (Act::CloseOther, None),
    (Act::CloseWhileWalking, None),
    (Act::SetTimer, Some(Part::Timers)),
    (Act::SetPeerTimer, Some(Part::Timers)),
    (Act::Cancel, Some(Part::Timers)),
    (Act::Tell, Some(Part::Messages)),
    (Act::TellNowhere, Some(Part::Messages)),
    (Act::OpenEndpoint, Some(Part::Endpoints)),
    (Act::OpenByEndpoint, Some(Part::Endpoints)),
    (Act::OpenByListener, None),
    (Act::OpenWrongly, None),
    (Act::CloseEndpoint, Some(Part::Endpoints)),
    (Act::Promote, Some(Part::Tiers)),
    (Act::Demote, Some(Part::Tiers)),
    (Act::Mark, None),
    (Act::Validate, None),
    (Act::UsePath, None),
    (Act::UseWrongPath, None),
    (Act::Cookie, None),
    (Act::Answer, None),
    (Act::AnswerNobody, None),
    (Act::Dial, Some(Part::Dials)),
    (Act::Redial, Some(Part::Dials)),
    (Act::Join, Some(Part::Groups)),
    (Act::JoinWrongly, Some(Part::Groups)),
    (Act::Leave, Some(Part::Groups)),
];

/// How a node's handlers are. A seed leaves out about half of what there is, so that the rest meets more often.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    pub(crate) acts: Vec<Act>,
    /// Most acts in a callback.
    pub(crate) busy: u64,
    /// Of a hundred datagrams so many are replied to in place.
    pub(crate) replies: u8,
    /// Weights of what `accept` says: peer, connect, done, reply, path of, drop.
    pub(crate) accepts: [u8; 6],
    /// One callback in so many panics; never if 0.
    pub(crate) panics: u64,
    /// What is kept then: nothing, the peers, the handler.
    pub(crate) keeps: u8,
    /// The length most datagrams have.
    pub(crate) segment: usize,
    pub(crate) whole_trains: bool,
    pub(crate) opens_at_start: bool,
    /// Of a hundred drains so many wait for the peers.
    pub(crate) patience: u8,
    pub(crate) everywhere: Everywhere,
}

impl Temper {
    /// One that this seed has. What is left out of the run (`has`) is no act of it.
    pub(crate) fn of(dice: &mut Dice, has: &impl Fn(Part) -> bool, is_client: bool) -> Self {
        let share = *dice.pick(&[20, 50, 90]).unwrap_or(&50);
        let allowed = |part: &Option<Part>| part.is_none_or(has);
        let mut acts: Vec<Act> = ACTS
            .iter()
            .filter(|(_, part)| dice.percent(share) && allowed(part))
            .map(|(act, _)| *act)
            .collect();
        if acts.is_empty() {
            acts.push(Act::Send);
        }
        let mut accepts = [60, 20, 10, 10, 20, 10].map(|w: u8| if dice.percent(60) { w } else { 0 });
        if accepts[..2].iter().all(|w| *w == 0) && dice.percent(90) {
            accepts[dice.below(2) as usize] = 100;
        }
        if accepts.iter().all(|w| *w == 0) {
            accepts[0] = 1;
        }
        let panics = if dice.percent(30) && has(Part::Panics) { dice.range(5..=200) } else { 0 };
        Self {
            acts,
            busy: *dice.pick(&[0, 1, 3, 8]).unwrap_or(&1),
            replies: *dice.pick(&[0, 50, 100]).unwrap_or(&50),
            accepts,
            panics,
            keeps: (panics % 3) as u8,
            segment: *dice.pick(&[8, 40, 100, 1_200]).unwrap_or(&40),
            whole_trains: dice.percent(40),
            opens_at_start: is_client || dice.percent(20),
            patience: *dice.pick(&[0, 50, 100]).unwrap_or(&0),
            everywhere: Everywhere::default().map(|_| dice.percent(40)),
        }
    }
}

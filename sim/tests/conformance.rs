//! The suite of conformance over the simulator.

#[path = "support/bed.rs"]
mod bed;

fn simulated() -> Option<bed::SimBed> {
    Some(bed::SimBed::new())
}

shardgram_conformance::conformance!(crate::simulated);

//! Everything at every step of a plain turn: one thing, and two of them one after the other.

use std::time::Duration;

use super::{
    Dice, Tally,
    clients::Wish,
    each,
    faults::{Faults, Mutant, NEVER},
    trials,
    world::{Turn, World},
};

/// What may happen at a step.
const HAPPENINGS: [Wish; 15] = [
    Wish::Interrupt,
    Wish::Kill,
    Wish::Delete,
    Wish::Prompt,
    Wish::Put,
    Wish::Remove,
    Wish::Revoke,
    Wish::GiveWay,
    Wish::Answer,
    Wish::Amend { input: true, at_rest: false },
    Wish::Amend { input: false, at_rest: true },
    Wish::Crash,
    Wish::Fault,
    Wish::Cut,
    Wish::Silence,
];

const TURNS: [Turn; 5] = [Turn::Plain, Turn::Lost, Turn::Late, Turn::Hangs, Turn::Refused];

/// Behind so many steps a turn is over, whatever happened to it.
const STEPS: u64 = 64;

/// One turn, with these things at these steps.
fn turn(kind: Turn, seed: u64, happenings: &[(u64, Wish)], mutant: Option<Mutant>) -> Result<Tally, String> {
    let mut world = World::new(Dice::new(seed), Faults { mutant, ..Faults::plain() });
    (world.first, world.hangs) = (kind, kind == Turn::Hangs);
    world.wish(Wish::Prompt);
    let rest = Duration::from_mins(40);
    for step in 0.. {
        for (_, wish) in happenings.iter().filter(|(at, _)| *at == step) {
            world.wish(*wish);
            world.watch();
        }
        if step > STEPS || world.next_at() > rest.max(world.now) {
            break;
        }
        world.live_one(NEVER);
    }
    world.live(world.now + rest);
    world.calm_down();
    world.verdict().map_err(|reason| format!("{kind:?}, seed {seed}, {happenings:?}: {reason}"))
}

/// One thing at every step; how many turns that were, and what they had.
pub(super) fn one(mutant: Option<Mutant>) -> Result<(u64, Tally), String> {
    let count = TURNS.len() * HAPPENINGS.len() * 4;
    let one = |number: u64| {
        let number = usize::try_from(number - 1).unwrap();
        let (kind, wish) = (TURNS[number % TURNS.len()], HAPPENINGS[number / TURNS.len() % HAPPENINGS.len()]);
        let mut tally = Tally::default();
        for step in 0..STEPS {
            tally += turn(kind, number as u64, &[(step, wish)], mutant)?;
        }
        Ok(tally)
    };
    each(count as u64, one).map(|tally| (count as u64 * STEPS, tally)).map_err(|(_, reason)| reason)
}

#[test]
fn one_thing_at_every_step_of_a_turn() {
    match one(None) {
        Ok((count, tally)) => println!("{count} turns; {tally:?}"),
        Err(reason) => panic!("{reason}"),
    }
}

#[test]
fn two_things_at_every_two_steps_of_a_turn() {
    let kinds = HAPPENINGS.len() * HAPPENINGS.len();
    let count = TURNS.len() * kinds;
    // Every second step is tried with every distance in four runs: another fourth each time.
    let part = std::env::var("LAP_SEED").map_or(0, |seed| seed.parse().unwrap());
    let one = |number: u64| {
        let number = usize::try_from(number - 1).unwrap();
        let (kind, pair) = (TURNS[number / kinds], number % kinds);
        let (first, second) = (HAPPENINGS[pair / HAPPENINGS.len()], HAPPENINGS[pair % HAPPENINGS.len()]);
        let mut tally = Tally::default();
        for step in 0..STEPS / 2 {
            for distance in 0..STEPS / 2 {
                if (step + distance + part) % 8 < trials() {
                    tally += turn(kind, part, &[(step, first), (step + distance, second)], None)?;
                }
            }
        }
        Ok(tally)
    };
    let tally = each(count as u64, one).unwrap_or_else(|(_, reason)| panic!("{reason}"));
    println!("{tally:?}");
}

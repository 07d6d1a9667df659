//! Chance that can be repeated: one seed a run, printed, and taken from `FAIRLEAD_TEST_SEED` if set.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The variable that repeats a run.
const VARIABLE: &str = "FAIRLEAD_TEST_SEED";

/// A generator of this run's seed, which it prints.
pub fn generator(of: &str) -> StdRng {
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is not a number: {text}")),
        Err(_) => rand::random::<u64>(),
    };
    eprintln!("{of}: {VARIABLE}={seed} repeats this run's choices");
    StdRng::seed_from_u64(seed)
}

//! Inputs that fuzzing has kept for the simulation: what is drawn is what they say.

use super::kept::kept;
use super::simulate::run_input;
use std::path::Path;

#[test]
fn what_fuzzing_has_kept_of_calls_crashes_and_faults_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, input) in kept(&corpora, "sequence") {
        println!("{name}");
        run_input(&input);
    }
}

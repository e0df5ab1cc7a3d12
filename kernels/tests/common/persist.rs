//! Random cases: how many, and where the seeds of those that failed are kept.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// So many random cases, unless the environment says how many: an emulated machine needs fewer. The seed of a case that
/// fails is appended to `NAME.regressions` beside the test's `NAME.rs`, and run before any other case from then on.
pub fn config(cases: u32) -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    let config = ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() };
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { config } else { ProptestConfig { cases, ..config } }
}

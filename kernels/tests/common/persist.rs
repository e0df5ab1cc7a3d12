//! The number of random cases, and the file that keeps the seeds of failed ones.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// A configuration with `cases` random cases, unless the environment sets another number, for example for an
/// emulated machine. The seed of a failed case is appended to `NAME.regressions` next to the test's
/// `NAME.rs`. Later runs try these seeds first.
pub fn config(cases: u32) -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    let config = ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() };
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { config } else { ProptestConfig { cases, ..config } }
}

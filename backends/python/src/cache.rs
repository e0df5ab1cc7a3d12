//! Plans that were used last, and workspaces that all plans share.

use kernels::{ConvError, ConvIo, ConvPlan, Layout, Shape4, Threads, Workspace, WorkspaceReq};
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that one convolution keeps.
const PLANS: usize = 32;
/// A larger workspace is freed after its run.
const KEPT_WORKSPACE: usize = (256 << 20) / size_of::<f32>();

/// What a plan depends on besides the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) input: Shape4,
    pub(crate) layout: Layout,
    pub(crate) output_layout: Layout,
    pub(crate) residual: bool,
    pub(crate) threads: usize,
}

/// The plans of one filter. The least recently used plan comes first.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Vec<(Key, Arc<ConvPlan>)>>);

impl Cache {
    /// Returns the plan of `key`, from the cache or by `make`.
    pub(crate) fn get(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<ConvPlan, ConvError>,
    ) -> Result<Arc<ConvPlan>, ConvError> {
        if let Some(plan) = self.recall(key) {
            return Ok(plan);
        }
        // The lock is not held here, so that other threads can use the plans that exist.
        let plan = Arc::new(make()?);
        if let Some(plan) = self.recall(key) {
            return Ok(plan);
        }
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS {
            plans.remove(0);
        }
        plans.push((key, plan.clone()));
        Ok(plan)
    }

    fn recall(&self, key: Key) -> Option<Arc<ConvPlan>> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = plans.iter().position(|(other, _)| *other == key)?;
        plans[index..].rotate_left(1);
        plans.last().map(|(_, plan)| plan.clone())
    }

    /// Number of plans.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// One for each call that ran at the same time. The layers of a network run one after another and use the same
/// workspace, which is therefore in the cache of the core.
static IDLE: Mutex<Vec<Workspace>> = Mutex::new(Vec::new());

/// Runs `plan` with an idle workspace.
pub(crate) fn run(plan: &ConvPlan, io: ConvIo<'_>, threads: Threads<'_>) -> Result<(), ConvError> {
    with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads))
}

/// Calls `run` with an idle workspace of at least the size `req`.
pub(crate) fn with_workspace(
    req: WorkspaceReq,
    run: impl FnOnce(&mut Workspace) -> Result<(), ConvError>,
) -> Result<(), ConvError> {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut workspace = idle.unwrap_or_else(Workspace::empty);
    let result = workspace.reserve(req).and_then(|()| run(&mut workspace));
    if workspace.len() <= KEPT_WORKSPACE {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
    }
    result
}

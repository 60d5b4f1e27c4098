//! Who may cancel whom: the secrets handed out in `BackendKeyData`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::engine::CancelToken;

/// The sessions that can be cancelled.
#[derive(Default, Clone)]
pub(super) struct Cancels(Arc<Mutex<HashMap<i32, (Bytes, CancelToken)>>>);

/// Takes a session out of the list when it ends.
pub(super) struct Registration {
    cancels: Cancels,
    pid: i32,
}

impl Cancels {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, (Bytes, CancelToken)>> {
        // The map is whole even when a thread has panicked holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session.
    pub(super) fn register(&self, pid: i32, secret: Bytes, token: CancelToken) -> Registration {
        self.lock().insert(pid, (secret, token));
        Registration { cancels: self.clone(), pid }
    }

    /// Cancels the running statement of a session, when the secret is right.
    pub(super) fn cancel(&self, pid: i32, secret: &[u8]) {
        let token = match self.lock().get(&pid) {
            Some((known, token)) if same(known, secret) => token.clone(),
            _ => return,
        };
        token.cancel();
    }
}

/// Compares in a time that depends on the length only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.pid);
    }
}

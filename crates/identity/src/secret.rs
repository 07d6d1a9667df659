//! Bytes that must not linger in memory or appear in a log.

use zeroize::{Zeroize, Zeroizing};

/// A value that is overwritten when dropped and can be neither printed, cloned nor serialised.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value; the caller should hold no other copy.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

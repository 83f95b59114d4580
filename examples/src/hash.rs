//! Short numbers for what texts and files hold.

/// A hash of 64 bits, FNV-1a with a last mixing step: the same on every platform and for ever, which the standard library's
/// hashers don't promise. It tells things apart that nobody made alike on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Hash64(u64);

impl Default for Hash64 {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash64 {
    /// Adds bytes; two additions are as one of both.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    }

    /// Adds bytes after their number, so that what ends one field cannot begin the next.
    pub fn write_field(&mut self, bytes: &[u8]) {
        self.write(&(bytes.len() as u64).to_le_bytes());
        self.write(bytes);
    }

    /// The hash of all that was added.
    pub fn finish(self) -> u64 {
        // FNV's last bytes hardly reach its upper bits.
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    }
}

//! Files that are measured with.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// What was written before is on the disk: it shall not be written at the cost of what is measured next.
pub fn settle(dir: &Path) -> anyhow::Result<()> {
    rustix::fs::syncfs(File::open(dir)?)?;
    Ok(())
}

/// Bytes that no layer could shorten.
pub fn write_file(path: &Path, size: u64) -> anyhow::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..size / 8 {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

//! Unpacks the "legacy" LZ4 form in which Debian's kernels carry their payload (LZ4 frame format, appendix "Legacy
//! frame"; block format in lz4_Block_format.md of the lz4 project).

use anyhow::{Result, bail};

/// The four bytes with which a legacy frame begins.
pub(crate) const MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const BLOCK: usize = 8 << 20;

/// Returns what the frame holds; stops at the first thing that can't be a block, as other bytes follow in a kernel.
pub(crate) fn unpack(frame: &[u8]) -> Result<Vec<u8>> {
    let Some(mut rest) = frame.strip_prefix(&MAGIC) else { bail!("this is no legacy LZ4 frame") };
    let mut out = Vec::new();
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        if size == 0 || size > after.len() {
            break;
        }
        let before = out.len();
        unpack_block(&after[..size], &mut out)?;
        rest = &after[size..];
        // Every block but the last one is full.
        if out.len() - before < BLOCK {
            break;
        }
    }
    Ok(out)
}

fn unpack_block(block: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let mut at = 0;
    while at < block.len() {
        let token = block[at];
        at += 1;
        let literals = length(block, &mut at, token >> 4)?;
        let Some(bytes) = block.get(at..at + literals) else { bail!("an LZ4 block ends inside its literals") };
        out.extend_from_slice(bytes);
        at += literals;
        if at == block.len() {
            break;
        }
        let Some(&[low, high]) = block.get(at..at + 2) else { bail!("an LZ4 block ends inside an offset") };
        at += 2;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        let count = length(block, &mut at, token & 15)? + 4;
        if offset == 0 || offset > out.len() - start {
            bail!("an LZ4 block refers to bytes before its begin");
        }
        // Byte by byte, since a match may overlap what it appends.
        let from = out.len() - offset;
        for index in from..from + count {
            out.push(out[index]);
        }
    }
    Ok(())
}

fn length(block: &[u8], at: &mut usize, first: u8) -> Result<usize> {
    let mut sum = usize::from(first);
    if first == 15 {
        loop {
            let Some(&more) = block.get(*at) else { bail!("an LZ4 block ends inside a length") };
            *at += 1;
            sum += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_an_overlapping_match_are_unpacked() {
        // "ab", then 6 bytes from 2 back, then the literal "z".
        let block = [0x22, b'a', b'b', 2, 0, 0x10, b'z'];
        let mut frame = MAGIC.to_vec();
        frame.extend_from_slice(&(block.len() as u32).to_le_bytes());
        frame.extend_from_slice(&block);
        frame.extend_from_slice(b"other bytes");
        assert_eq!(unpack(&frame).expect("a good frame"), b"ababababz");
    }

    #[test]
    fn a_match_before_the_begin_is_refused() {
        let mut frame = MAGIC.to_vec();
        let block = [0x12, b'a', 9, 0, 0x10, b'z'];
        frame.extend_from_slice(&(block.len() as u32).to_le_bytes());
        frame.extend_from_slice(&block);
        assert!(unpack(&frame).is_err());
    }
}

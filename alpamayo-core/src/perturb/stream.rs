//! Where the perturbations' randomness comes from.
//!
//! Every draw is addressed by what it is for: the specification's seed, the clip's name, the perturbation's place in
//! the list, the camera and the frame are the key of a counter-based stream (ChaCha with eight rounds). So it depends
//! neither on the platform, nor on the number of threads, nor on what else is perturbed, nor on the severity: a drop of
//! rain that falls at severity 0.3 falls at the same place at 0.4.

use crate::random::RandomStream;

/// What a stream belongs to. Two scopes never share a stream.
#[derive(Clone, Copy, Debug)]
enum Scope {
    Clip = 0,
    Camera = 1,
    Frame = 2,
}

/// The streams of one perturbation of one clip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClipStreams {
    seed: u64,
    clip: u64,
    perturbation: u16,
}

impl ClipStreams {
    /// The streams of the perturbation at place `perturbation` of a list with this seed, applied to the clip of this
    /// name.
    pub(crate) fn new(seed: u64, clip: &str, perturbation: usize) -> Self {
        Self {
            seed,
            clip: fnv1a(clip.as_bytes()),
            perturbation: perturbation as u16,
        }
    }

    /// Draws for the clip as a whole.
    pub(crate) fn clip(&self) -> RandomStream {
        self.stream(Scope::Clip, 0, 0)
    }

    /// The streams of one image.
    pub(crate) fn image(self, camera: usize, frame: usize) -> ImageStreams {
        ImageStreams {
            clip: self,
            camera: camera as u16,
            frame: frame as u16,
        }
    }

    fn stream(&self, scope: Scope, camera: u16, frame: u16) -> RandomStream {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[9] = scope as u8;
        key[10..12].copy_from_slice(&self.perturbation.to_le_bytes());
        key[12..14].copy_from_slice(&camera.to_le_bytes());
        key[14..16].copy_from_slice(&frame.to_le_bytes());
        key[16..24].copy_from_slice(&self.clip.to_le_bytes());
        RandomStream::perturbation(key)
    }
}

/// The streams of one image under one perturbation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageStreams {
    clip: ClipStreams,
    camera: u16,
    frame: u16,
}

impl ImageStreams {
    /// Draws that are the same for all frames of a camera: dirt stays where it is, fog does not flicker.
    pub(crate) fn camera(&self) -> RandomStream {
        self.clip.stream(Scope::Camera, self.camera, 0)
    }

    /// Draws of this frame alone: sensor noise, falling rain and snow.
    pub(crate) fn frame(&self) -> RandomStream {
        self.clip.stream(Scope::Frame, self.camera, self.frame)
    }
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_own_stream() {
        let first = |seed, clip, place, camera, frame| {
            let image = ClipStreams::new(seed, clip, place).image(camera, frame);
            [image.camera().uniform(), image.frame().uniform()]
        };
        let reference = first(1, "a", 0, 0, 0);
        assert_eq!(first(1, "a", 0, 0, 0), reference);
        assert_eq!(
            first(1, "a", 0, 0, 1)[0],
            reference[0],
            "a camera's draws last over its frames"
        );
        assert_ne!(first(1, "a", 0, 0, 1)[1], reference[1]);
        for other in [
            first(2, "a", 0, 0, 0),
            first(1, "b", 0, 0, 0),
            first(1, "a", 1, 0, 0),
            first(1, "a", 0, 1, 0),
        ] {
            assert_ne!(other[0], reference[0]);
            assert_ne!(other[1], reference[1]);
        }
        assert_ne!(reference[0], reference[1]);
        assert_ne!(ClipStreams::new(1, "a", 0).clip().uniform(), reference[0]);
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}

//! Frames of a video, by their index.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tempfile::TempPath;

use super::archive::{copy_member, stored_bytes};
use super::ffmpeg::{Ffmpeg, Output, file, part_of_file, run};
use crate::{Error, Frame, Result};

/// How far before a frame decoding starts, in seconds; far more than frames are reordered by.
const RUN_UP: f64 = 1.0;
/// Frames that one run of ffmpeg picks; its expressions may not nest deeper than a hundred.
const FRAMES_AT_ONCE: usize = 50;
const NO_TIMES: &str = "some of its frames have no time, as in some AVI files; `ffmpeg -i FILE -c:v libx264 -crf 18 \
                        FILE.mp4` gives them one";

/// A video file whose frames have been counted, read through the ffmpeg command.
#[derive(Debug, Clone)]
pub struct Video {
    bytes: Bytes,
    ffmpeg: Ffmpeg,
    /// Presentation time of every frame in units of `time_base`, ascending.
    pts: Vec<i64>,
    time_base: f64,
}

/// Where a video's bytes are.
#[derive(Debug, Clone)]
enum Bytes {
    File(PathBuf),
    /// Some of a larger file.
    Part(PathBuf, Range<u64>),
    /// A temporary file, deleted with the last of its videos.
    Copy(Arc<TempPath>),
}

impl Bytes {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Part(path, _) => path,
            Self::Copy(path) => path,
        }
    }

    /// What ffmpeg opens.
    fn input(&self) -> OsString {
        match self {
            Self::File(_) | Self::Copy(_) => file(self.path()),
            Self::Part(path, range) => part_of_file(path, range),
        }
    }
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    packets: Vec<Packet>,
    #[serde(default)]
    streams: Vec<Stream>,
}

impl Probe {
    /// When the frames are shown, ascending; `None` where one has no time.
    fn presentation_times(&self) -> Option<Vec<i64>> {
        // D: to be decoded, but not shown.
        let shown = self.packets.iter().filter(|packet| !packet.flags.contains('D'));
        let mut pts = shown.map(|packet| packet.pts).collect::<Option<Vec<i64>>>()?;
        pts.sort_unstable();
        pts.dedup();
        let promised = self
            .streams
            .first()
            .and_then(|stream| stream.nb_frames.as_ref()?.parse::<usize>().ok());
        if promised.is_some_and(|promised| promised > self.packets.len()) {
            // The file is cut. Frames are stored in the order of decoding, none is shown before it is decoded: up to the
            // time at which the last one there is decoded, none is missing.
            let end = self.packets.last()?.dts?;
            pts.retain(|&pts| pts <= end);
        }
        Some(pts)
    }
}

#[derive(Deserialize)]
struct Packet {
    pts: Option<i64>,
    dts: Option<i64>,
    #[serde(default)]
    flags: String,
}

#[derive(Deserialize)]
struct Stream {
    time_base: String,
    /// Frames that the file's header promises, where it does.
    nb_frames: Option<String>,
}

impl Video {
    /// Counts the frames of the file's first video stream, without decoding them.
    ///
    /// # Errors
    /// [`Error::DataFile`] where it has none, or is no video; [`Error::Ffmpeg`].
    pub fn open(ffmpeg: &Ffmpeg, path: &Path) -> Result<Self> {
        Self::open_bytes(ffmpeg, Bytes::File(path.to_path_buf()))
    }

    /// As [`Video::open`], for a member of a zip file: in place where it is stored, through a temporary file where it is
    /// compressed.
    ///
    /// # Errors
    /// As [`Video::open`], and [`Error::DataFile`] where the archive lacks it or it is damaged.
    pub(super) fn open_member(ffmpeg: &Ffmpeg, archive: &Path, member: &str) -> Result<Self> {
        if let Some(bytes) = stored_bytes(archive, member)? {
            return Self::open_bytes(ffmpeg, Bytes::Part(archive.to_path_buf(), bytes));
        }
        // ffmpeg wants to seek in MP4.
        let file = tempfile::Builder::new().prefix("alpamayo-").suffix(".mp4").tempfile();
        let mut file = file.map_err(Error::io("create", &std::env::temp_dir()))?;
        copy_member(archive, member, file.as_file_mut())?;
        Self::open_bytes(ffmpeg, Bytes::Copy(Arc::new(file.into_temp_path())))
    }

    /// The temporary file with its bytes, where there is one.
    #[cfg(test)]
    pub(super) fn copy(&self) -> Option<&Path> {
        matches!(self.bytes, Bytes::Copy(_)).then(|| self.bytes.path())
    }

    fn open_bytes(ffmpeg: &Ffmpeg, bytes: Bytes) -> Result<Self> {
        let path = bytes.path();
        let options = "-v error -fflags +discardcorrupt -select_streams V:0 -of json \
                       -show_entries packet=pts,dts,flags:stream=time_base,nb_frames";
        let arguments = options.split_whitespace().map(Into::into).chain([bytes.input()]);
        let output = run("ffprobe", arguments)?;
        let complaint = output.complaint.as_deref().unwrap_or("ffprobe fails");
        if !output.success {
            return Err(error(path, complaint));
        }
        let probe: Probe = serde_json::from_slice(&output.stdout)
            .map_err(|cause| error(path, format!("ffprobe's answer is not understood: {cause}")))?;
        let time_base = probe.streams.first().and_then(|stream| ratio(&stream.time_base));
        let time_base = time_base.ok_or_else(|| error(path, "there is no video stream in it"))?;
        let pts = probe.presentation_times();
        let pts = pts.ok_or_else(|| error(path, NO_TIMES))?;
        if pts.is_empty() {
            return Err(error(path, "there are no frames in it"));
        }
        Ok(Self {
            bytes,
            ffmpeg: ffmpeg.clone(),
            pts,
            time_base,
        })
    }

    /// Frames in the file.
    pub fn frame_count(&self) -> usize {
        self.pts.len()
    }

    /// When each frame is shown, microseconds since the first one.
    pub fn times_us(&self) -> Vec<i64> {
        let first = self.pts[0];
        let microseconds = |pts: &i64| ((pts - first) as f64 * self.time_base * 1e6).round() as i64;
        self.pts.iter().map(microseconds).collect()
    }

    /// The frames of those indices, in the order asked for; converted to RGB by swscale (bilinear) with the matrix that
    /// the file names.
    ///
    /// # Errors
    /// [`Error::DataFile`] where the file ends before one of them, or cannot be decoded there; [`Error::Ffmpeg`].
    pub fn frames(&self, indices: &[usize]) -> Result<Vec<Frame>> {
        let count = self.frame_count();
        if let Some(index) = indices.iter().find(|&&index| index >= count) {
            let reason = format!("frame {index} is not there: it ends after {count} frames; is the file complete?");
            return Err(error(self.bytes.path(), reason));
        }
        let mut wanted: Vec<usize> = indices.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut decoded = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(FRAMES_AT_ONCE) {
            decoded.extend(self.ascending_frames(some)?);
        }
        let position = |index: &usize| wanted.binary_search(index).ok();
        let frames = indices.iter().filter_map(position).map(|at| decoded[at].clone());
        Ok(frames.collect())
    }

    /// Frames of ascending indices.
    fn ascending_frames(&self, indices: &[usize]) -> Result<Vec<Frame>> {
        let seconds = |index: usize| self.pts[index] as f64 * self.time_base;
        let start = indices.first().map(|&first| seconds(first) - RUN_UP);
        let middle = start.filter(|&start| start > seconds(0));
        // Where starting in the middle gives less than that, from the beginning.
        let starts = middle.map(Some).into_iter().chain([None]);
        let mut said = String::new();
        for start in starts {
            let output = self.decode(indices, start)?;
            let frames =
                parse_ppm(&output.stdout).ok_or_else(|| error(self.bytes.path(), "ffmpeg's frames are cut off"))?;
            if frames.len() == indices.len() {
                return Ok(frames);
            }
            let complaint = output.complaint.map_or_else(String::new, |line| format!(" ({line})"));
            said = format!("{} of the frames {indices:?} can be decoded{complaint}", frames.len());
        }
        Err(error(self.bytes.path(), said))
    }

    /// Runs ffmpeg for frames of ascending indices, from `start` seconds on.
    fn decode(&self, indices: &[usize], start: Option<f64>) -> Result<Output> {
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        let mut add = |words: &str| arguments.extend(words.split_whitespace().map(Into::into));
        add("-nostdin -hide_banner -v error -fflags +discardcorrupt -copyts");
        if let Some(start) = start {
            add(&format!("-noaccurate_seek -seek_timestamp 1 -ss {start:.6}"));
        }
        add("-i");
        arguments.push(self.bytes.input());
        let chosen: Vec<String> = indices
            .iter()
            .map(|&index| format!("eq(pts,{})", self.pts[index]))
            .collect();
        let filter = format!("select='{}',scale=flags=bilinear,format=rgb24", chosen.join("+"));
        let mut add = |words: &str| arguments.extend(words.split_whitespace().map(Into::into));
        add(&format!("-map 0:V:0 -vf {filter} -frames:v {}", indices.len()));
        add(&self.ffmpeg.every_frame_once().join(" "));
        add("-f image2pipe -c:v ppm -");
        run("ffmpeg", arguments)
    }
}

/// A fraction as ffprobe writes it, `1/15360`.
fn ratio(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let value = numerator.parse::<f64>().ok()? / denominator.parse::<f64>().ok()?;
    (value.is_finite() && value > 0.0).then_some(value)
}

/// A sequence of binary PPM images.
fn parse_ppm(mut bytes: &[u8]) -> Option<Vec<Frame>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let mut header = [""; 4];
        for word in &mut header {
            let end = bytes.iter().position(u8::is_ascii_whitespace)?;
            *word = std::str::from_utf8(&bytes[..end]).ok()?;
            bytes = &bytes[end + 1..];
        }
        let ["P6", width, height, "255"] = header else {
            return None;
        };
        let (width, height) = (width.parse::<usize>().ok()?, height.parse::<usize>().ok()?);
        let size = width.checked_mul(height)?.checked_mul(3)?;
        frames.push(Frame::new(width, height, bytes.get(..size)?.to_vec()).ok()?);
        bytes = &bytes[size..];
    }
    Some(frames)
}

fn error(path: &Path, reason: impl Into<String>) -> Error {
    Error::DataFile {
        path: path.to_path_buf(),
        field: "video".into(),
        reason: reason.into(),
    }
}

//! Tables of timed poses.

use std::path::{Path, PathBuf};

use super::geodetic::Geodetic;
use crate::dataset::poses::{PoseTrack, check_times, outside};
use crate::dataset::source::Source;
use crate::dataset::spline::CubicSpline;
use crate::{Error, Result};

/// Speed in m/s below which the direction of travel says nothing about the heading.
const SLOWEST: f64 = 0.5;

/// Timed poses of the vehicle, as a table gives them.
#[derive(Debug, Clone)]
pub struct PoseLog {
    times_us: Vec<i64>,
    positions: Positions,
    headings: Headings,
}

#[derive(Debug, Clone)]
enum Positions {
    /// Metres, z up.
    Metres(Vec<[f64; 3]>),
    Geodetic(Vec<Geodetic>),
}

#[derive(Debug, Clone)]
enum Headings {
    /// x, y, z, w.
    Quaternions(Vec<[f64; 4]>),
    /// Radians, counter-clockwise from the x axis (from east, where positions are geodetic).
    Yaw(Vec<f64>),
    /// Not recorded: the direction of travel.
    Travel,
}

impl PoseLog {
    /// Reads a CSV file with a header; other columns are ignored, and so is the case of their names.
    ///
    /// - time: `time_s` (seconds) or `time_us` (microseconds), increasing;
    /// - position: `x`, `y` and, if known, `z` in metres (z up), or `latitude`, `longitude` in degrees and, if known,
    ///   `altitude` in metres;
    /// - heading, if known: `qx`, `qy`, `qz`, `qw`, or `yaw_deg` (counter-clockwise from x, or from east), or `heading_deg`
    ///   (clockwise from north, with latitude and longitude alone). Without one it is the direction of travel; a car
    ///   that stands keeps the last.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::DataFile`] with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let table = CsvTable::parse(path, text)?;
        let times = match table.column("time_us")? {
            Some(times) => times,
            None => table.required("time_s")?.into_iter().map(|time| time * 1e6).collect(),
        };
        let times_us: Vec<i64> = times.into_iter().map(|time| time.round() as i64).collect();
        if let Some(row) = times_us.windows(2).position(|pair| pair[0] >= pair[1]) {
            let (before, after) = (times_us[row], times_us[row + 1]);
            return Err(table.error(
                row + 1,
                format!("times must increase, but {after} us follows {before} us"),
            ));
        }
        if times_us.len() < 4 {
            return Err(table.error(times_us.len(), "a table of poses has at least four rows".into()));
        }
        let positions = table.positions()?;
        let headings = table.headings(matches!(positions, Positions::Geodetic(_)))?;
        Ok(Self {
            times_us,
            positions,
            headings,
        })
    }

    /// The first and the last time, microseconds.
    pub fn range_us(&self) -> (i64, i64) {
        (self.times_us[0], self.times_us[self.times_us.len() - 1])
    }

    /// The poses in metres; geodetic ones in the plane that touches the Earth at the last pose before `t0_us`.
    ///
    /// # Errors
    /// [`Error::Recording`] where `t0_us` is outside of the recorded times.
    pub fn track(&self, source: &Source, t0_us: i64) -> Result<PoseTrack> {
        let (first, last) = self.range_us();
        if t0_us < first || t0_us > last {
            return Err(outside(source, &self.times_us, t0_us));
        }
        let positions = match &self.positions {
            Positions::Metres(positions) => positions.clone(),
            Positions::Geodetic(points) => {
                let origin = points[self.times_us.partition_point(|&time| time <= t0_us) - 1];
                points.iter().map(|point| point.seen_from(origin)).collect()
            }
        };
        let quaternions = match &self.headings {
            Headings::Quaternions(quaternions) => quaternions.clone(),
            Headings::Yaw(yaw) => yaw.iter().copied().map(upright).collect(),
            Headings::Travel => {
                let seconds = check_times(source, &self.times_us)?;
                let spline = CubicSpline::new(seconds, positions.clone());
                let spline = spline.ok_or_else(|| source.error(t0_us, "no spline goes through the positions"))?;
                directions_of_travel(spline.slopes()).into_iter().map(upright).collect()
            }
        };
        PoseTrack::new(source.clone(), self.times_us.clone(), positions, &quaternions)
    }
}

/// The rotation by a yaw in radians.
fn upright(yaw: f64) -> [f64; 4] {
    [0.0, 0.0, (yaw / 2.0).sin(), (yaw / 2.0).cos()]
}

/// The yaw of every velocity; a slow one has the last faster one's, and before the first its.
fn directions_of_travel(velocities: &[[f64; 3]]) -> Vec<f64> {
    let yaw = |[x, y, _]: &[f64; 3]| (x.hypot(*y) >= SLOWEST).then(|| y.atan2(*x));
    let mut current = velocities.iter().find_map(yaw).unwrap_or(0.0);
    let mut directions = Vec::with_capacity(velocities.len());
    for velocity in velocities {
        current = yaw(velocity).unwrap_or(current);
        directions.push(current);
    }
    directions
}

/// Columns of numbers with a header.
struct CsvTable {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

impl CsvTable {
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let error = |cause: csv::Error| Error::DataFile {
            path: path.to_path_buf(),
            field: "CSV".into(),
            reason: cause.to_string(),
        };
        let text = text.trim_start_matches('\u{feff}');
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(error)?.iter().map(str::to_lowercase).collect();
        let rows = reader.records().collect::<Result<_, _>>().map_err(error)?;
        Ok(Self {
            path: path.to_path_buf(),
            header,
            rows,
        })
    }

    /// A column's numbers; `None` where there is no such column.
    fn column(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(index) = self.header.iter().position(|column| column == name) else {
            return Ok(None);
        };
        let mut numbers = Vec::with_capacity(self.rows.len());
        for (row, record) in self.rows.iter().enumerate() {
            let text = record.get(index).unwrap_or_default();
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            numbers.push(number.ok_or_else(|| self.error(row, format!("{name}: `{text}` is no number")))?);
        }
        Ok(Some(numbers))
    }

    fn required(&self, name: &str) -> Result<Vec<f64>> {
        self.column(name)?.ok_or_else(|| Error::DataFile {
            path: self.path.clone(),
            field: format!("column `{name}`"),
            reason: format!("there is no such column; there are {}", self.header.join(", ")),
        })
    }

    /// A column's numbers, or zeros.
    fn or_zeros(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.column(name)?.unwrap_or_else(|| vec![0.0; self.rows.len()]))
    }

    fn positions(&self) -> Result<Positions> {
        let Some(latitudes) = self.column("latitude")? else {
            let columns = [self.required("x")?, self.required("y")?, self.or_zeros("z")?];
            let row = |row: usize| columns.each_ref().map(|column| column[row]);
            return Ok(Positions::Metres((0..self.rows.len()).map(row).collect()));
        };
        let (longitudes, heights) = (self.required("longitude")?, self.or_zeros("altitude")?);
        let points = latitudes.into_iter().zip(longitudes).zip(heights);
        let points = points.map(|((latitude, longitude), height)| Geodetic {
            latitude,
            longitude,
            height,
        });
        let points: Vec<Geodetic> = points.collect();
        let impossible = |point: &Geodetic| point.latitude.abs() > 90.0 || point.longitude.abs() > 360.0;
        match points.iter().position(impossible) {
            Some(row) => Err(self.error(row, format!("{:?} is no point on the Earth", points[row]))),
            None => Ok(Positions::Geodetic(points)),
        }
    }

    fn headings(&self, geodetic: bool) -> Result<Headings> {
        if self.column("qw")?.is_some() {
            let names = ["qx", "qy", "qz", "qw"];
            let columns = names
                .into_iter()
                .map(|name| self.required(name))
                .collect::<Result<Vec<_>>>()?;
            let row = |row: usize| std::array::from_fn(|column| columns[column][row]);
            return Ok(Headings::Quaternions((0..self.rows.len()).map(row).collect()));
        }
        if let Some(yaw) = self.column("yaw_deg")? {
            return Ok(Headings::Yaw(yaw.into_iter().map(f64::to_radians).collect()));
        }
        match self.column("heading_deg")? {
            Some(headings) if geodetic => {
                let yaw = headings.into_iter().map(|heading| (90.0 - heading).to_radians());
                Ok(Headings::Yaw(yaw.collect()))
            }
            Some(_) => Err(Error::DataFile {
                path: self.path.clone(),
                field: "column `heading_deg`".into(),
                reason: "with x and y nothing says where north is; give `yaw_deg`, counter-clockwise from x".into(),
            }),
            None => Ok(Headings::Travel),
        }
    }

    /// `row` counts from 0 below the header.
    fn error(&self, row: usize, reason: String) -> Error {
        let position = self.rows.get(row).and_then(|record| record.position());
        let line = position.map_or_else(
            || "end of the file".into(),
            |position| format!("line {}", position.line()),
        );
        Error::DataFile {
            path: self.path.clone(),
            field: line,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PoseLog> {
        PoseLog::parse(Path::new("drive.csv"), text)
    }

    fn track(text: &str, t0_us: i64) -> PoseTrack {
        parse(text)
            .unwrap()
            .track(&Source::new("drive", "drive.csv"), t0_us)
            .unwrap()
    }

    /// A circle of 50 m at 10 m/s to the left, 10 Hz, with the wanted columns.
    fn circle(header: &str, row: impl Fn(f64, f64) -> String) -> String {
        let rows = (0..100).map(|i| {
            let time = f64::from(i) / 10.0;
            format!("{time},{}\n", row(time, time * 10.0 / 50.0))
        });
        format!("time_s,{header}\n{}", rows.collect::<String>())
    }

    /// The same circle in every way to write it down, seen from the same time.
    #[test]
    fn every_kind_of_table_says_the_same() {
        let (radius, metres) = (50.0, 6_378_137.0f64.to_radians());
        let x = |angle: f64| radius * angle.sin();
        let y = |angle: f64| radius * (1.0 - angle.cos());
        // Near the equator a degree of longitude is a 360th of it; of latitude, a little less.
        let north = metres * (1.0 - 0.006_694_38);
        let point = |angle: f64| format!("{:.12},{:.12}", y(angle) / north, x(angle) / metres);
        let quaternion = |angle: f64| {
            format!(
                "{},{},0,0,{},{}",
                x(angle),
                y(angle),
                (angle / 2.0).sin(),
                (angle / 2.0).cos()
            )
        };
        let tables = [
            circle("x,y,qx,qy,qz,qw", |_, angle| quaternion(angle)),
            circle("X,Y,Yaw_deg", |_, angle| {
                format!("{},{},{}", x(angle), y(angle), angle.to_degrees())
            }),
            circle("x,y", |_, angle| format!("{},{}", x(angle), y(angle))),
            circle("latitude,longitude,heading_deg", |_, angle| {
                format!("{},{}", point(angle), 90.0 - angle.to_degrees())
            }),
            circle("latitude,longitude", |_, angle| point(angle)),
        ];
        let t0_us = 5_130_000;
        let times: Vec<i64> = (0..16).map(|step| t0_us - 1_500_000 + step * 100_000).collect();
        for text in tables {
            let local = track(&text, t0_us).seen_from(t0_us, &times).unwrap();
            for (step, (xyz, rot)) in local.xyz.iter().zip(&local.rot).enumerate() {
                let angle = (step as f64 - 15.0) * 0.02;
                let expected = [x(angle), y(angle), 0.0];
                for axis in 0..3 {
                    assert!(
                        (f64::from(xyz[axis]) - expected[axis]).abs() < 2e-3,
                        "{xyz:?} {expected:?}"
                    );
                }
                assert!((f64::from(rot[1][0]) - angle.sin()).abs() < 1e-4, "{rot:?} {angle}");
            }
        }
    }

    #[test]
    fn a_car_that_stands_keeps_its_heading() {
        let moving = [3.0, 4.0, 0.0];
        let yaw = 4f64.atan2(3.0);
        assert_eq!(directions_of_travel(&[[0.0; 3], moving, [0.1, -0.1, 0.0]]), [yaw; 3]);
        assert_eq!(directions_of_travel(&[[0.1, 0.0, 0.0]; 2]), [0.0; 2]);
    }

    #[test]
    fn lies_are_named_with_their_line() {
        let cases = [
            ("time_s,x,y\n0,0,0\n1,0,0\n1,0,0\n2,0,0\n", "line 4"),
            ("time_s,x,y\n0,0,0\n1,zero,0\n2,0,0\n3,0,0\n", "line 3"),
            ("time_s,x,y\n0,0,0\n1,inf,0\n2,0,0\n3,0,0\n", "line 3"),
            ("time_s,x,y\n0,0,0\n", "four rows"),
            ("time_s,x\n0,0\n1,0\n2,0\n3,0\n", "column `y`"),
            ("x,y\n0,0\n", "column `time_s`"),
            ("time_s,x,y,heading_deg\n0,0,0,0\n1,0,0,0\n2,0,0,0\n3,0,0,0\n", "north"),
            ("time_s,latitude,longitude\n0,0,0\n1,91,0\n2,0,0\n3,0,0\n", "line 3"),
            ("time_s,x,y\n0,0\n", "CSV"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("drive.csv") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn nothing_is_extrapolated() {
        let log = parse("time_s,x,y\n0,0,0\n1,0,0\n2,0,0\n3,0,0\n").unwrap();
        let error = log
            .track(&Source::new("drive", "drive.csv"), 3_000_001)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("drive") && error.contains("3.000001 s") && error.contains("extrapolated"),
            "{error}"
        );
    }
}

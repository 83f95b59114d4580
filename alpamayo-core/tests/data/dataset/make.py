"""Writes `root`, a made-up dataset in the layout of PhysicalAI-Autonomous-Vehicles, and what SciPy and PyAV make of it.

    pip install pandas==3.1.1 pyarrow==26.0.1 scipy==1.17.1 av
    python make.py          # needs ffmpeg with libx264

Nothing in it is NVIDIA's: the drive is a formula, and every video frame shows its own number.
"""

import io
import json
import pathlib
import shutil
import subprocess
import zipfile

import av
import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline, make_interp_spline
from scipy.spatial.transform import Rotation, Slerp

HERE = pathlib.Path(__file__).parent
ROOT = HERE / "root"
CAMERAS = {
    0: "camera_cross_left_120fov",
    1: "camera_front_wide_120fov",
    2: "camera_cross_right_120fov",
    6: "camera_front_tele_30fov",
}
WIDTH, HEIGHT = 64, 48
rng = np.random.default_rng(20250111)


def clip_id(digit):
    return f"00000000-0000-4000-8000-00000000000{digit}"


WHOLE, BACKWARDS, NO_VIDEO, CUT, LATE_FRAMES, ELSEWHERE = (clip_id(digit) for digit in "abcdef")
CHUNK = {clip: 7 for clip in (WHOLE, BACKWARDS, NO_VIDEO, CUT, LATE_FRAMES)} | {ELSEWHERE: 8}


def parquet(frame, path=None, **options):
    target = io.BytesIO() if path is None else path
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(target, **options)
    return target.getvalue() if path is None else None


def zip_files(path, members, compression):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0)), data, compression)


def egomotion(rows, end):
    """A winding, hilly road, with noise, uneven times, and quaternions of either sign and of lengths near 1."""
    times = np.sort(rng.choice(np.arange(-70_000, int(end * 1e6), 500), rows, replace=False))
    times[0], times[-1] = -70_000, int(end * 1e6)
    s = times / 1e6
    yaw = 0.4 * np.sin(0.5 * s) + 0.05 * s
    pitch, roll = 0.03 * np.sin(0.9 * s), 0.02 * np.cos(1.3 * s)
    rotation = Rotation.from_euler("ZYX", np.stack([yaw, pitch, roll], axis=1))
    quaternions = rotation.as_quat() * rng.choice([-1, 1], (rows, 1)) * rng.uniform(0.999, 1.001, (rows, 1))
    position = np.stack([9 * s + 2 * np.sin(s), 6 * np.cos(0.5 * s), 0.3 * np.sin(0.7 * s)], axis=1)
    position += rng.normal(0, 0.002, position.shape) + [1200.0, -340.0, 15.0]
    velocity = np.stack([9 + 2 * np.cos(s), -3 * np.sin(0.5 * s), 0.21 * np.cos(0.7 * s)], axis=1)
    acceleration = np.stack([-2 * np.sin(s), -1.5 * np.cos(0.5 * s), -0.147 * np.sin(0.7 * s)], axis=1)
    columns = {"timestamp": times}
    for names, values in (
        (("qx", "qy", "qz", "qw"), quaternions),
        (("x", "y", "z"), position),
        (("vx", "vy", "vz"), velocity),
        (("ax", "ay", "az"), acceleration),
    ):
        columns |= {name: values[:, i] for i, name in enumerate(names)}
    return pd.DataFrame(columns | {"curvature": 0.02 * np.sin(0.5 * s)})


def frame_times(count, first):
    return first + np.cumsum(np.r_[0, rng.integers(31_000, 36_000, count - 1)])


def numbered_frame(camera, number):
    """Four by four blocks, white for ones: ten bits of the frame's number, three of the camera's, three of their sum."""
    code = number | camera << 10 | ((number + camera) % 8) << 13
    bits = np.array([code >> bit & 1 for bit in range(16)], np.uint8).reshape(4, 4) * 255
    return np.kron(bits, np.ones((HEIGHT // 4, WIDTH // 4), np.uint8))


def encode(frames, path, pixel_format="gray", options=()):
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-r", "30", "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryslow", "-crf", "32"]
    command += ["-g", "45", "-bf", "3", "-threads", "1", "-fflags", "+bitexact", "-flags", "+bitexact", *options, path]
    subprocess.run([str(word) for word in command], input=b"".join(frame.tobytes() for frame in frames), check=True)


def numbered_video(camera, count, options=()):
    path = HERE / "temporary.mp4"
    encode([numbered_frame(camera, number) for number in range(count)], path, options=options)
    data = path.read_bytes()
    path.unlink()
    return data


def interpolate(frame, times):
    """As the dataset's developer kit does: all but the rotation through splines that refuse to extrapolate."""
    first = frame["timestamp"].iloc[0]
    x = (frame["timestamp"] - first).to_numpy()
    at = np.asarray(times) - first
    linear = lambda names: make_interp_spline(x, frame[names].to_numpy(), k=1)(at)
    return {
        "position": CubicSpline(x, frame[["x", "y", "z"]].to_numpy(), extrapolate=False)(at),
        "rotation": Slerp(x, Rotation.from_quat(frame[["qx", "qy", "qz", "qw"]].to_numpy()))(at).as_matrix(),
        "velocity": linear(["vx", "vy", "vz"]),
        "acceleration": linear(["ax", "ay", "az"]),
        "curvature": linear(["curvature"])[:, 0],
    }


def local(frame, t0, times):
    origin, poses = interpolate(frame, [t0]), interpolate(frame, times)
    inverse = origin["rotation"][0].T
    return {
        "t0_us": t0,
        "times_us": times,
        "xyz": (poses["position"] - origin["position"]) @ inverse.T,
        "rot": inverse @ poses["rotation"],
    }


def features():
    rows = [
        {
            "feature": camera,
            "directory": "camera",
            "chunk_path": f"camera/{camera}/{camera}.chunk_{{chunk_id:04d}}.zip",
            "clip_files_in_zip": json.dumps(
                {
                    "video": f"{{clip_id}}.{camera}.mp4",
                    "frame_timestamps": f"{{clip_id}}.{camera}.timestamps.parquet",
                    "blurred_boxes": f"{{clip_id}}.{camera}.blurred_boxes.parquet",
                }
            ),
        }
        for camera in CAMERAS.values()
    ]
    rows.append(
        {
            "feature": "egomotion",
            "directory": "labels",
            "chunk_path": "labels/egomotion/egomotion.chunk_{chunk_id:04d}.zip",
            "clip_files_in_zip": json.dumps({"egomotion": "{clip_id}.egomotion.parquet"}),
        }
    )
    for name in ("camera_intrinsics", "sensor_extrinsics", "vehicle_dimensions"):
        path = f"calibration/{name}/{name}.chunk_{{chunk_id:04d}}.parquet"
        rows.append({"feature": name, "directory": "calibration", "chunk_path": path, "clip_files_in_zip": None})
    rows.append(
        {
            "feature": "radar.front.mid",
            "directory": "radar",
            "chunk_path": "radar/front/mid.chunk_{chunk_id:04d}.zip",
            "clip_files_in_zip": json.dumps({"radar": "{clip_id}.radar.parquet"}),
        }
    )
    pd.DataFrame(rows).to_csv(ROOT / "features.csv", index=False)


def index():
    clips = pd.DataFrame(
        {
            "clip_is_valid": [clip != BACKWARDS for clip in CHUNK],
            "chunk": list(CHUNK.values()),
            "split": ["train"] * len(CHUNK),
        },
        index=pd.Index(list(CHUNK), name="clip_id"),
    )
    parquet(clips, ROOT / "clip_index.parquet")
    # An index without a name, and fewer clips.
    split = pd.DataFrame({"split": ["val", "train"]}, index=[WHOLE, CUT])
    parquet(split, ROOT / "splits/default.parquet", compression="zstd")
    presence = {name: [True] * len(CHUNK) for name in (*CAMERAS.values(), "egomotion")}
    presence["radar.front.mid"] = [clip == ELSEWHERE for clip in CHUNK]
    parquet(pd.DataFrame(presence, index=clips.index), ROOT / "metadata/feature_presence.parquet")


def calibration():
    names = [*CAMERAS.values(), "camera_rear_tele_30fov"]
    keys = pd.MultiIndex.from_product([[WHOLE, CUT], names], names=["clip_id", "camera_name"])
    columns = {"width": [WIDTH] * len(keys), "height": [HEIGHT] * len(keys)}
    for i, name in enumerate(["cx", "cy", *(f"bw_poly_{k}" for k in range(5)), *(f"fw_poly_{k}" for k in range(5))]):
        columns[name] = np.arange(len(keys)) + i / 100
    path = ROOT / "calibration/camera_intrinsics/camera_intrinsics.chunk_0007.parquet"
    parquet(pd.DataFrame(columns, index=keys), path)
    keys = keys.set_names(["clip_id", "sensor_name"])
    columns = {name: np.arange(len(keys)) * 0.5 + i for i, name in enumerate(["qx", "qy", "qz", "qw", "x", "y", "z"])}
    path = ROOT / "calibration/sensor_extrinsics/sensor_extrinsics.chunk_0007.parquet"
    parquet(pd.DataFrame(columns, index=keys), path)
    vehicle = {"length": 4.9, "width": 1.9, "height": 1.7, "rear_axle_to_bbox_center": 1.4, "wheelbase": 2.9, "track_width": 1.6}
    vehicle = pd.DataFrame({name: [value, value + 1] for name, value in vehicle.items()}, index=pd.Index([WHOLE, CUT], name="clip_id"))
    parquet(vehicle, ROOT / "calibration/vehicle_dimensions/vehicle_dimensions.chunk_0007.parquet")


def small_splines():
    cases = []
    for count in range(2, 8):
        knots = np.cumsum(rng.uniform(0.05, 2, count)) - 1
        values = rng.normal(0, 3, (count, 3))
        x = rng.uniform(knots[0], knots[-1], 12)
        spline = CubicSpline(knots, values)
        cases.append({"knots": knots, "values": values, "x": x, "y": spline(x), "slopes": spline(knots, 1)})
    return cases


def colours():
    """A colourful video, and one of its frames as PyAV, which the reference uses, converts it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = [np.stack([x * 4, y * 5, (x + y + 8 * n) * 2 % 256], axis=-1).astype(np.uint8) for n in range(12)]
    encode(frames, HERE / "colours.mp4", "rgb24", ["-crf", "10"])
    with av.open(str(HERE / "colours.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    image = av.VideoFrame.from_ndarray(images[7], format="rgb24")
    image.to_image().save(HERE / "colours.frame7.png")


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    features()
    index()
    calibration()

    whole = egomotion(380, 12.3)
    short = egomotion(100, 6.5)
    backwards = short.copy()
    backwards.loc[50, "timestamp"] = backwards.loc[48, "timestamp"]
    motions = {WHOLE: whole, BACKWARDS: backwards, NO_VIDEO: short, CUT: short, LATE_FRAMES: short}
    members = {f"{clip}.egomotion.parquet": parquet(motion) for clip, motion in motions.items()}
    zip_files(ROOT / "labels/egomotion/egomotion.chunk_0007.zip", members, zipfile.ZIP_DEFLATED)

    chosen = {}
    t0s = [5_100_000, 4_321_987]
    for camera, name in CAMERAS.items():
        times = frame_times(170, -40_000 + 3_000 * camera)
        requested = np.array([[t0 - step * 100_000 for step in (3, 2, 1, 0)] for t0 in t0s])
        chosen[camera] = np.searchsorted(times, requested, side="right") - 1
        timestamps = lambda times, **options: parquet(pd.DataFrame({"timestamp": times}), **options)
        members = {
            f"{WHOLE}.{name}.mp4": numbered_video(camera, len(times)),
            f"{WHOLE}.{name}.timestamps.parquet": timestamps(times, compression="zstd"),
            f"{WHOLE}.{name}.blurred_boxes.parquet": b"not to be read",
        }
        if camera == 1:
            cut = numbered_video(camera, 170, ["-movflags", "+faststart"])
            late = times.copy()
            late[100] = late[99]
            members |= {
                f"{NO_VIDEO}.{name}.timestamps.parquet": timestamps(times),
                f"{CUT}.{name}.mp4": cut[: len(cut) * 4 // 5],
                f"{CUT}.{name}.timestamps.parquet": timestamps(times, compression=None),
                f"{LATE_FRAMES}.{name}.timestamps.parquet": timestamps(late),
            }
        path = ROOT / f"camera/{name}/{name}.chunk_0007.zip"
        zip_files(path, members, zipfile.ZIP_DEFLATED if camera == 2 else zipfile.ZIP_STORED)

    times = np.sort(np.r_[-70_000, 12_300_000, rng.integers(-70_000, 12_300_000, 40), whole["timestamp"][100]])
    history = lambda t0: [int(t0 + step * 100_000) for step in range(-15, 65)]
    golden = {
        "interpolated": {"times_us": times} | interpolate(whole, times),
        "local": [local(whole, t0, history(t0)) for t0 in t0s],
        "frames": {str(camera): indices for camera, indices in chosen.items()},
        "splines": small_splines(),
    }
    plain = lambda value: value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    (HERE / "golden.json").write_text(json.dumps(golden, default=plain) + "\n")
    colours()


if __name__ == "__main__":
    main()

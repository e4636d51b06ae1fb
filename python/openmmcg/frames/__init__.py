"""Positions and forces on disk: trajectories in H5MD, written by `FrameWriter` and read by `Frames`."""

from openmmcg.frames.arrays import write_frames
from openmmcg.frames.reader import FrameArray, Frames
from openmmcg.frames.writer import FrameWriter

__all__ = ["FrameArray", "FrameWriter", "Frames", "write_frames"]

//! StereoSet.

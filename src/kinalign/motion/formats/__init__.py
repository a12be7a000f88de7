"""Files that hold motions: npy and npz, BVH in and out, GLB out, AMASS in. Nothing read here is ever executed."""

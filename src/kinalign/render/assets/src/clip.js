// A motion as the page holds it: decoded once, sampled at any time.

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer;

export class Clip {
  constructor(record) {
    Object.assign(this, record); // caption, fps, names, parents, events
    this.numJoints = record.names.length;
    const root = new Float32Array(bytes(record.root));
    const steps = new Int16Array(bytes(record.offsets));
    this.numFrames = root.length / 3;
    this.duration = this.numFrames / this.fps;
    const width = this.numJoints * 3;
    this.frames = new Float32Array(steps.length);
    for (let i = 0; i < steps.length; i++) {
      this.frames[i] = root[3 * Math.floor(i / width) + (i % 3)] + steps[i] * record.scale;
    }
    this.left = this.jointsOf("left");
    this.right = this.jointsOf("right");
    this.focus = this.smoothedRoot(0.4);
  }

  jointsOf(side) {
    return this.names.flatMap((name, joint) => (name.split("_").includes(side) ? [joint] : []));
  }

  // Joints (J * 3) at a time. Catmull-Rom: exact on frames, and limbs keep their length between them better than on
  // straight lines.
  sample(time, out = new Float32Array(this.numJoints * 3)) {
    const last = this.numFrames - 1, width = out.length;
    const position = Math.min(last, Math.max(0, time * this.fps));
    const nearest = Math.round(position);
    if (Math.abs(position - nearest) < 1e-6) {
      out.set(this.frames.subarray(nearest * width, (nearest + 1) * width));
      return out;
    }
    const f = Math.floor(position), t = position - f, t2 = t * t, t3 = t2 * t;
    const at = [Math.max(0, f - 1), f, f + 1, Math.min(last, f + 2)].map((frame) => frame * width);
    const w = [-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2].map((weight) => weight / 2);
    for (let i = 0; i < width; i++) {
      out[i] = w[0] * this.frames[at[0] + i] + w[1] * this.frames[at[1] + i]
        + w[2] * this.frames[at[2] + i] + w[3] * this.frames[at[3] + i];
    }
    return out;
  }

  // Root in the ground plane, averaged over ± seconds: what a following camera looks at, whichever way one scrubs.
  smoothedRoot(seconds) {
    const reach = Math.round(seconds * this.fps), width = this.numJoints * 3, path = new Float32Array(this.numFrames * 2);
    for (let f = 0; f < this.numFrames; f++) {
      let x = 0, z = 0, total = 0;
      for (let k = -reach; k <= reach; k++) {
        const weight = Math.exp(-4 * (k / (reach || 1)) ** 2);
        const frame = Math.min(this.numFrames - 1, Math.max(0, f + k)) * width;
        x += weight * this.frames[frame];
        z += weight * this.frames[frame + 2];
        total += weight;
      }
      path[2 * f] = x / total;
      path[2 * f + 1] = z / total;
    }
    return path;
  }

  focusAt(time) {
    const position = Math.min(this.numFrames - 1, Math.max(0, time * this.fps));
    const f = Math.floor(position), g = Math.min(this.numFrames - 1, f + 1), t = position - f;
    return [0, 1].map((axis) => this.focus[2 * f + axis] * (1 - t) + this.focus[2 * g + axis] * t);
  }

  // Smallest and largest x, y, z over all frames.
  bounds() {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    this.frames.forEach((value, i) => {
      low[i % 3] = Math.min(low[i % 3], value);
      high[i % 3] = Math.max(high[i % 3], value);
    });
    return { low, high };
  }

  // Farthest that a joint gets from the followed root in the ground plane, in metres.
  reach() {
    const width = this.numJoints * 3;
    let farthest = 0;
    for (let i = 0; i < this.frames.length; i += 3) {
      const f = Math.floor(i / width);
      farthest = Math.max(farthest, Math.hypot(this.frames[i] - this.focus[2 * f], this.frames[i + 2] - this.focus[2 * f + 1]));
    }
    return farthest;
  }

  // Angle about the vertical that the first pose faces, 0 along +z; 0 too when left and right say nothing.
  facing() {
    const mean = (joints, axis) => joints.reduce((sum, joint) => sum + this.frames[3 * joint + axis], 0) / (joints.length || 1);
    const x = mean(this.right, 2) - mean(this.left, 2), z = mean(this.left, 0) - mean(this.right, 0);
    return Math.atan2(x, z);
  }
}

// A body of capsules: one tapered capsule per bone, a flatter torso, a head, hands and soles that joints do not have.

import {
  Group, InstancedMesh, LatheGeometry, Matrix4, Mesh, MeshBasicMaterial, MeshLambertMaterial, MeshStandardMaterial, Vector2, Vector3,
} from "three";

// Radii in metres of an adult whose leg, hip to ankle, is 0.84 m.
const ADULT_LEG = 0.84;
const RADIUS = { hip: 0.078, knee: 0.053, ankle: 0.038, heel: 0.034, foot: 0.03, shoulder: 0.057, elbow: 0.039, wrist: 0.029,
  neck: 0.05, head: 0.048 };
const OTHER = 0.04;
export const SOLE = 0.032;
// Half depth of the torso by height from root (0) to neck (1); it is TORSO_WIDTH times as wide.
const TORSO = [[0, 0.096], [0.3, 0.093], [0.7, 0.117], [1, 0.06]];
const TORSO_WIDTH = 1.36;

const word = (name) => name.split("_").pop();
const radiusOf = (name) => RADIUS[word(name)] ?? OTHER;

function torsoRadius(height) {
  const above = Math.max(1, TORSO.findIndex(([h]) => h >= height));
  const [h0, r0] = TORSO[above - 1], [h1, r1] = TORSO[above];
  return r0 + ((r1 - r0) * (height - h0)) / (h1 - h0);
}

// A capsule from the origin to (0, length, 0) with another radius at either end, tangent to both spheres.
function capsule(r0, r1, length) {
  const tilt = Math.asin(Math.max(-0.95, Math.min(0.95, (r0 - r1) / Math.max(length, 1e-4))));
  const points = [], steps = 10;
  for (let i = 0; i <= steps; i++) {
    const a = -Math.PI / 2 + ((tilt + Math.PI / 2) * i) / steps;
    points.push(new Vector2(Math.max(r0 * Math.cos(a), 0), r0 * Math.sin(a)));
  }
  for (let i = 0; i <= steps; i++) {
    const a = tilt + ((Math.PI / 2 - tilt) * i) / steps;
    points.push(new Vector2(Math.max(r1 * Math.cos(a), 0), length + r1 * Math.sin(a)));
  }
  return new LatheGeometry(points, 28);
}

// What to draw for a skeleton: `points` adds a head, hands and soles to the joints, `parts` span two points each.
export class Body {
  constructor(clip) {
    this.clip = clip;
    const { names, parents } = clip;
    const at = (name) => names.indexOf(name);
    const length = (joint) => this.boneLength(joint);
    const legs = names.flatMap((name, joint) => (["knee", "ankle"].includes(word(name)) ? [length(joint)] : []));
    this.size = legs.length ? (legs.reduce((a, b) => a + b) * 2) / legs.length / ADULT_LEG || 1 : 1;
    this.extras = [];
    this.parts = [];

    const spine = [];
    for (let joint = at("neck"); joint >= 0; joint = parents[joint]) spine.unshift(joint);
    const heights = spine.map(() => 0);
    for (let i = 1; i < spine.length; i++) heights[i] = heights[i - 1] + length(spine[i]);
    const torso = (joint) => torsoRadius(heights[spine.indexOf(joint)] / (heights.at(-1) || 1));

    const shoulders = names.flatMap((name, joint) => (word(name) === "shoulder" ? [joint] : []));
    const chest = this.extra((p, out) => {
      for (const joint of shoulders) out.addScaledVector(p[joint], 1 / shoulders.length);
      return out;
    });
    names.forEach((name, joint) => {
      const parent = parents[joint], kind = word(name), side = clip.left.includes(joint) ? "left" : clip.right.includes(joint) ? "right" : "body";
      if (parent < 0) return;
      if (spine.includes(joint)) this.part(parent, joint, torso(parent), torso(joint), "body", { wide: TORSO_WIDTH });
      else if (kind === "head") this.part(parent, joint, RADIUS.neck, RADIUS.head, "body");
      else if (kind === "shoulder") {
        // no bone fills the upper chest or follows the slope from neck to shoulder
        this.part(chest, joint, 0.092, 0.054, "body");
        this.part(at("neck") < 0 ? parent : at("neck"), joint, 0.05, 0.052, "body");
      }
      else if (kind === "hip") this.part(parent, joint, 0.09, 0.072, "body");
      else if (["collar", "heel"].includes(kind)) return; // in the chest, in the shoe
      else if (kind === "foot") {
        const ankle = word(names[parent]) === "heel" ? parents[parent] : parent;
        const heel = this.extra((p, out) => sole(p, out, parents[ankle], ankle, joint, this.size));
        const toe = this.extra((p, out) => beyond(p, out, heel, joint, 0.045 * this.size));
        this.part(heel, toe, 0.036, 0.029, side, { wide: 1.3 });
        this.part(ankle, joint, RADIUS.ankle, 0.03, side);
      } else this.part(parent, joint, radiusOf(names[parent]), radiusOf(name), side);
      if (kind === "wrist") this.part(joint, this.extra((p, out) => beyond(p, out, parent, joint, 0.1 * this.size)), 0.034, 0.026, side);
      if (kind === "head") {
        const chin = this.extra((p, out) => beyond(p, out, parent, joint, 0.03 * this.size));
        const crown = this.extra((p, out) => beyond(p, out, parent, joint, 0.09 * this.size));
        this.part(chin, crown, 0.078, 0.09, "body", { wide: 0.9 });
      }
    });

    const [leftHip, rightHip] = ["left_hip", "right_hip"].map(at);
    const [leftShoulder, rightShoulder] = ["left_shoulder", "right_shoulder"].map(at);
    this.across = [[leftHip, rightHip], [leftShoulder, rightShoulder]].filter((pair) => pair.every((joint) => joint >= 0));
    // spheres that darken the ground beneath them
    this.spheres = names.map((name, joint) => (spine.includes(joint) ? torso(joint) : radiusOf(name)) * this.size);
  }

  boneLength(joint) {
    const { frames, numJoints, numFrames, parents } = this.clip;
    let total = 0;
    for (let f = 0; f < numFrames; f++) {
      const a = 3 * (f * numJoints + joint), b = 3 * (f * numJoints + parents[joint]);
      total += Math.hypot(frames[a] - frames[b], frames[a + 1] - frames[b + 1], frames[a + 2] - frames[b + 2]);
    }
    return total / numFrames;
  }

  extra(place) {
    this.extras.push(place);
    return this.clip.numJoints + this.extras.length - 1;
  }

  part(from, to, r0, r1, side, { wide = 1 } = {}) {
    this.parts.push({ from, to, r0: r0 * this.size, r1: r1 * this.size, side, wide });
  }

  // Points as vectors: the joints, then what hangs on them.
  points(joints) {
    const points = [];
    for (let i = 0; i < joints.length; i += 3) points.push(new Vector3(joints[i], joints[i + 1], joints[i + 2]));
    for (const place of this.extras) points.push(place(points, new Vector3()));
    return points;
  }

  geometries() {
    const rest = this.points(this.clip.frames.subarray(0, this.clip.numJoints * 3));
    return this.parts.map(({ from, to, r0, r1, wide }) => {
      const isBone = this.clip.parents[to] === from;
      const length = Math.max(isBone ? this.boneLength(to) : rest[from].distanceTo(rest[to]), 1e-3);
      const geometry = capsule(r0, r1, length).scale(wide, 1, 1);
      geometry.userData.length = length;
      return geometry;
    });
  }

  // A matrix for each part: y along the bone, x across the body, stretched where a bone is longer than on average.
  place(joints, geometries, set) {
    const points = this.points(joints), matrix = new Matrix4();
    const across = new Vector3();
    for (const [left, right] of this.across) across.add(points[left]).sub(points[right]);
    if (across.lengthSq() < 1e-8) across.set(1, 0, 0);
    const x = new Vector3(), y = new Vector3(), z = new Vector3();
    this.parts.forEach(({ from, to }, i) => {
      y.subVectors(points[to], points[from]);
      const length = y.length();
      if (length < 1e-6) y.set(0, 1, 0);
      else y.divideScalar(length);
      x.copy(across).addScaledVector(y, -across.dot(y));
      if (x.lengthSq() < 1e-4 * across.lengthSq()) x.set(y.y, -y.x, 0); // a bone straight across the body
      if (x.lengthSq() < 1e-8) x.set(0, -y.z, y.y);
      x.normalize();
      z.crossVectors(x, y);
      y.multiplyScalar(Math.max(length, 1e-4) / geometries[i].userData.length);
      set(i, matrix.makeBasis(x, y, z).setPosition(points[from]));
    });
    return points;
  }
}

function beyond(points, out, from, to, distance) {
  out.subVectors(points[to], points[from]);
  return out.setLength(out.length() ? distance : 0).add(points[to]);
}

// Where the heel stands: below the ankle along the shin, a little behind.
function sole(points, out, knee, ankle, toe, size) {
  const back = new Vector3().subVectors(points[ankle], points[toe]);
  const down = new Vector3().subVectors(points[ankle], points[knee]).normalize();
  back.addScaledVector(down, -back.dot(down)).normalize();
  return out.copy(points[ankle]).addScaledVector(down, 0.05 * size).addScaledVector(back, 0.03 * size);
}

export class Palette {
  constructor() {
    const solid = () => new MeshStandardMaterial({ roughness: 0.66, metalness: 0 });
    const pale = () => new MeshLambertMaterial({ transparent: true, opacity: 0.22, depthWrite: false });
    this.solid = { left: solid(), right: solid(), body: solid() };
    this.pale = { left: pale(), right: pale(), body: pale() };
    // "transparent" only so that it is drawn after the body and the ground
    this.depth = new MeshBasicMaterial({ colorWrite: false, transparent: true });
  }

  paint(colour) {
    for (const side of ["left", "right", "body"]) {
      this.solid[side].color.copy(colour(side));
      this.pale[side].color.copy(colour(side));
    }
  }
}

export class Figure extends Group {
  constructor(clip, palette) {
    super();
    this.body = new Body(clip);
    this.clip = clip;
    this.palette = palette;
    this.geometries = this.body.geometries();
    this.joints = new Float32Array(clip.numJoints * 3);
    this.meshes = this.body.parts.map(({ side }, i) => {
      const mesh = new Mesh(this.geometries[i], palette.solid[side]);
      mesh.matrixAutoUpdate = false;
      mesh.castShadow = mesh.receiveShadow = true;
      this.add(mesh);
      return mesh;
    });
  }

  pose(time) {
    this.clip.sample(time, this.joints);
    this.body.place(this.joints, this.geometries, (i, matrix) => {
      this.meshes[i].matrix.copy(matrix);
      this.meshes[i].matrixWorldNeedsUpdate = true;
    });
  }

  // Poses along the way, see-through as a whole: depth first, so that no limb shines through another.
  showGhosts(shown) {
    if (shown && !this.ghosts) {
      const count = Math.max(2, Math.min(12, Math.round(this.clip.duration / 0.7)));
      this.ghosts = new Group();
      const layers = this.body.parts.map(({ side }, i) => {
        const front = new InstancedMesh(this.geometries[i], this.palette.pale[side], count);
        const depth = new InstancedMesh(this.geometries[i], this.palette.depth, count);
        depth.instanceMatrix = front.instanceMatrix;
        depth.renderOrder = 3;
        front.renderOrder = 4;
        front.frustumCulled = depth.frustumCulled = false;
        this.ghosts.add(depth, front);
        return front;
      });
      for (let k = 0; k < count; k++) {
        const joints = this.clip.sample((k / (count - 1)) * (this.clip.numFrames - 1) / this.clip.fps);
        this.body.place(joints, this.geometries, (i, matrix) => layers[i].setMatrixAt(k, matrix));
      }
      this.add(this.ghosts);
    }
    if (this.ghosts) this.ghosts.visible = shown;
  }
}

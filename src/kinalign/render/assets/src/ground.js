// The ground: a grid that fades into the background, soft darkness under the body, the path of the root.

import { BufferAttribute, BufferGeometry, CircleGeometry, Color, Mesh, PlaneGeometry, ShaderMaterial, ShadowMaterial, Vector2, Vector4, DoubleSide } from "three";

const flat = (size) => new PlaneGeometry(size, size).rotateX(-Math.PI / 2);

export class Grid extends Mesh {
  constructor() {
    super(new CircleGeometry(1, 48).rotateX(-Math.PI / 2), new ShaderMaterial({
      transparent: true, depthWrite: false,
      uniforms: { colour: { value: new Color() }, anchor: { value: new Vector2() }, radius: { value: 6 }, cell: { value: new Vector4() } },
      vertexShader: `
        varying vec2 place; uniform float radius;
        void main() { place = position.xz * radius; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `
        varying vec2 place;
        uniform vec3 colour; uniform vec2 anchor; uniform float radius;
        uniform vec4 cell; // x, y, width, height of this view in pixels of the drawing buffer
        float lines(vec2 p, float thickness) {
          vec2 blur = fwidth(p), gap = abs(fract(p - 0.5) - 0.5);
          vec2 line = clamp((thickness * 0.5 + blur - gap) / blur, 0.0, 1.0) * min(1.0, thickness / max(blur.x, blur.y) + 0.35);
          return max(line.x, line.y);
        }
        void main() {
          vec2 p = place + anchor;
          float metre = lines(p, 0.01), half_metre = lines(p * 2.0, 0.01);
          float fade = 1.0 - smoothstep(0.15, 1.0, length(place) / radius);
          vec2 inside = (gl_FragCoord.xy - cell.xy) / cell.zw;
          fade *= fade * smoothstep(0.0, 0.22, min(inside.x, 1.0 - inside.x)) * smoothstep(-0.04, 0.12, inside.y);
          gl_FragColor = vec4(colour, max(metre * 0.44, half_metre * 0.16) * fade);
          #include <colorspace_fragment>
        }`,
    }));
    this.renderOrder = 0;
  }

  // Metres from the middle at which it has faded; no larger than needed, for machines that draw without a GPU.
  set radius(metres) {
    this.material.uniforms.radius.value = metres;
    this.scale.setScalar(metres);
  }
}

export class CastShadow extends Mesh {
  constructor() {
    super(flat(2), new ShadowMaterial({ transparent: true, depthWrite: false }));
    this.renderOrder = 1;
    this.receiveShadow = true;
  }
}

// How much of the sky each sphere of the body hides from the ground: r² h / (h² + d²)^1.5, summed.
export class ContactShade extends Mesh {
  constructor(radii) {
    super(flat(2.6), new ShaderMaterial({
      transparent: true, depthWrite: false, defines: { NUM_SPHERES: radii.length },
      uniforms: { spheres: { value: radii.map((r) => new Vector4(0, 0, 0, r)) }, colour: { value: new Color() }, strength: { value: 1 } },
      vertexShader: `
        varying vec2 place;
        void main() { place = position.xz; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `
        varying vec2 place;
        uniform vec4 spheres[NUM_SPHERES]; uniform vec3 colour; uniform float strength;
        void main() {
          float hidden = 0.0;
          for (int i = 0; i < NUM_SPHERES; i++) {
            float r = spheres[i].w, h = max(spheres[i].y, r), d = distance(place, spheres[i].xz);
            hidden += r * r * h / pow(h * h + d * d, 1.5);
          }
          float edge = 1.0 - smoothstep(0.4, 1.3, length(place));
          gl_FragColor = vec4(colour, strength * (1.0 - exp(-hidden)) * edge);
          #include <colorspace_fragment>
        }`,
    }));
    this.renderOrder = 1;
  }

  under(joints, floor) {
    this.position.set(joints[0], floor, joints[2]);
    this.material.uniforms.spheres.value.forEach((sphere, i) => {
      sphere.set(joints[3 * i] - joints[0], joints[3 * i + 1] - floor, joints[3 * i + 2] - joints[2], sphere.w);
    });
  }
}

// The root's way over the ground as a ribbon, stronger where the body has been.
export class Path extends Mesh {
  constructor(clip, floor) {
    const n = clip.numFrames, position = new Float32Array(n * 6), time = new Float32Array(n * 2), side = new Float32Array(n * 2), index = [];
    for (let f = 0; f < n; f++) {
      const a = Math.max(0, f - 1) * 2, b = Math.min(n - 1, f + 1) * 2;
      const dx = clip.focus[b] - clip.focus[a], dz = clip.focus[b + 1] - clip.focus[a + 1], length = Math.hypot(dx, dz) || 1;
      // where the root rests there is no direction: the ribbon closes
      const half = 0.011 * Math.min(1, length * clip.fps);
      for (const s of [0, 1]) {
        const sign = 2 * s - 1;
        position.set([clip.focus[2 * f] + (sign * half * dz) / length, floor, clip.focus[2 * f + 1] - (sign * half * dx) / length], (2 * f + s) * 3);
        time[2 * f + s] = f / clip.fps;
        side[2 * f + s] = sign;
      }
      if (f) index.push(2 * f - 2, 2 * f - 1, 2 * f, 2 * f, 2 * f - 1, 2 * f + 1);
    }
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(position, 3));
    geometry.setAttribute("time", new BufferAttribute(time, 1));
    geometry.setIndex(index);
    super(geometry, new ShaderMaterial({
      transparent: true, depthWrite: false, side: DoubleSide,
      uniforms: { colour: { value: new Color() }, now: { value: 0 } },
      vertexShader: `
        attribute float time; varying float when;
        void main() { when = time; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
      fragmentShader: `
        varying float when; uniform vec3 colour; uniform float now;
        void main() {
          gl_FragColor = vec4(colour, when <= now ? 0.55 : 0.16);
          #include <colorspace_fragment>
        }`,
    }));
    this.renderOrder = 2;
    this.frustumCulled = false;
  }
}

"""The figure of figure.py as one fragment shader, for machines with a GPU: the same light, the same cones, by moderngl.

Pictures agree with numpy's to within rounding, not to the byte; another driver gives other bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion
from kinalign.render import figure
from kinalign.render.camera import Camera
from kinalign.render.figure import Body, Look, Picture

MAX_PARTS, MAX_KNOTS = 128, 32
_EMULATORS = ("llvmpipe", "softpipe", "swiftshader")


def open_context(*, required: bool) -> Any:
    """A moderngl context without a window; ConfigError where none opens if it is `required`, else None.

    One that the processor emulates is slower than numpy, so it counts only if required.
    """
    try:
        import moderngl
    except ImportError as error:
        if required:
            raise ConfigError('backend "gl" needs moderngl: pip install "kinalign[gl]", or use "numpy"') from error
        return None
    settings: list[dict[str, Any]] = [{}, {"backend": "egl"}]  # a desktop, then a machine without a screen
    failures = []
    for setting in settings:
        try:
            context = moderngl.create_context(require=330, standalone=True, **setting)
        except Exception as error:  # moderngl raises plain Exception
            failures.append(str(error))
            continue
        if required or not any(name in context.info["GL_RENDERER"].lower() for name in _EMULATORS):
            return context
        context.release()
        return None
    if required:
        raise ConfigError(f'no OpenGL 3.3 context opens ({"; ".join(failures)}); use backend "numpy"')
    return None


def render(
    context: Any,
    motion: Motion,
    cameras: Sequence[Camera],
    frames: Sequence[int],
    *,
    size: int,
    look: Look,
    samples: int,
) -> Iterator[Picture]:
    """Pictures (size, size, 3) uint8 of some frames; the context is given back after the last."""
    body = Body.of(motion)
    num_parts = len(body.sides)
    if num_parts > MAX_PARTS:
        raise ConfigError(f'{num_parts} parts of a body are over the {MAX_PARTS} of backend "gl"; use "numpy"')
    return _frames(context, motion, body, cameras, frames, size=size, look=look, samples=samples)


def _frames(
    context: Any,
    motion: Motion,
    body: Body,
    cameras: Sequence[Camera],
    frames: Sequence[int],
    *,
    size: int,
    look: Look,
    samples: int,
) -> Iterator[Picture]:
    body_rows = np.concatenate((body.albedo(look), body.casts_shadow[:, None]), axis=1)
    joints = motion.joints.astype(np.float64)
    with context:
        program = context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        corners = context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes())
        triangle = context.vertex_array(program, [(corners, "2f", "corner")])
        target = context.framebuffer(context.texture((size, size), 3, alignment=1))

        def put(name: str, values: Any) -> None:
            program[name].write(np.ascontiguousarray(values, np.float32).tobytes())

        program["num_parts"], program["head"] = len(body.sides), -1 if body.head is None else body.head
        program["samples"] = samples
        put("size", size)
        put("paint", _padded(body_rows, MAX_PARTS))
        for name in ("background", "ground", "line", "trail", "visor"):
            put(f"{name}_color", getattr(look, name))
        put("key_color", figure.KEY_COLOR)
        put("sky_color", figure.SKY_COLOR)
        put("rim_color", figure.RIM_COLOR)
        put("shadow", (figure.SHADOW, figure.TOUCH, figure.LOW_M))
        put("grid", (figure.GRID_M, figure.LINE_M))
    try:
        for frame in frames:
            # another film may have drawn with its own context since the last frame
            with context:
                camera, pose = cameras[frame], joints[frame]
                origin = camera.position
                starts, ends = body.weights @ pose - origin  # relative to the camera: float32 stays exact
                knots = figure.trail_knots(joints[: frame + 1, 0], motion.fps)[-MAX_KNOTS:] - origin
                right, left = (pose[joint] for joint in body.shoulders)
                put("starts", _padded(np.column_stack((starts, body.radii_m[0])), MAX_PARTS))
                put("ends", _padded(np.column_stack((ends, body.radii_m[1])), MAX_PARTS))
                put("knots", _padded(knots, MAX_KNOTS))
                program["num_knots"] = len(knots)
                put("across", left - right)
                put("axes", camera.axes)  # rows in numpy are columns in GLSL
                put("slope", camera.slope)
                put("height", origin[1] + figure.SOLE_M)
                put("grid_origin", np.fmod(origin[[0, 2]], figure.GRID_M))
                put("middle", (np.asarray(camera.target) - origin)[[0, 2]])
                put("reach", 0.8 * camera.distance_m)
                put("trail_width", figure.trail_width_m(camera, size))
                put("to_light", figure.light_direction(camera, look))
                put("to_rim", figure.direction(camera.azimuth_deg + look.light_azimuth_deg + 180, 35))
                target.use()
                triangle.render()
                picture = np.frombuffer(target.read(components=3, alignment=1), np.uint8).reshape(size, size, 3)
            yield picture[::-1].copy()  # OpenGL counts rows from below
    finally:
        context.release()


def _padded(rows: Any, length: int) -> Any:
    return np.pad(rows, ((0, length - len(rows)), (0, 0)))


_VERTEX = "#version 330\nin vec2 corner; void main() { gl_Position = vec4(corner, 0.0, 1.0); }"

# The letters and formulas are those of figure.py, in world axes about the camera.
_FRAGMENT = (
    f"#version 330\nconst int MAX_PARTS = {MAX_PARTS}, MAX_KNOTS = {MAX_KNOTS};"
    """
uniform int num_parts, num_knots, head, samples;
uniform vec4 starts[MAX_PARTS], ends[MAX_PARTS];  // xyz metres, radius
uniform vec4 paint[MAX_PARTS];                    // albedo, casts a shadow
uniform vec3 knots[MAX_KNOTS];
uniform mat3 axes;                                // columns: right, up, forward
uniform float size, slope, height, reach, trail_width;
uniform vec2 grid, grid_origin, middle;
uniform vec3 across, to_light, to_rim, shadow;
uniform vec3 background_color, ground_color, line_color, trail_color, visor_color, key_color, sky_color, rim_color;
out vec3 color;

float enter_ball(vec3 ray, vec4 ball) {
    float toward = dot(ray, ball.xyz), root = toward * toward - dot(ball.xyz, ball.xyz) + ball.w * ball.w;
    return root < 0.0 ? 1e9 : toward - sqrt(root);
}

float enter_cone(vec3 ray, vec4 start, vec4 end) {
    vec3 axis = end.xyz - start.xyz;
    float squared = dot(axis, axis), taper = start.w - end.w, slant = squared - taper * taper;
    float balls = min(enter_ball(ray, start), enter_ball(ray, end));
    if (slant <= 1e-8) return balls;
    float ahead = dot(ray, axis), offset = -dot(axis, start.xyz);
    float k2 = slant - ahead * ahead;
    float k1 = ahead * (taper * start.w - offset) - dot(ray, start.xyz) * slant;
    float k0 = slant * dot(start.xyz, start.xyz) - offset * offset + 2.0 * offset * taper * start.w
             - squared * start.w * start.w;
    float root = k1 * k1 - k2 * k0;
    if (root < 0.0) return balls;
    float side = (-k1 - sqrt(root)) / k2, foot = offset - taper * start.w + side * ahead;
    return foot > 0.0 && foot < slant ? side : balls;
}

float occlusion(vec3 point, vec3 light, vec3 start, vec3 end, vec2 radius, vec2 blur) {
    vec3 along = end - start, from = point - start;
    along -= light * dot(along, light);
    from -= light * dot(from, light);
    float share = clamp(dot(from, along) / (dot(along, along) + 1e-9), 0.0, 1.0);
    float wide = mix(blur.x, blur.y, share);
    float edge = mix(radius.x, radius.y, share) + wide - length(from - share * along);
    edge = clamp(edge / (2.0 * wide), 0.0, 1.0);
    vec2 thin = min(radius / blur, 1.0);
    return edge * edge * (3.0 - 2.0 * edge) * mix(thin.x, thin.y, share);
}

float lines(float at, float pixel) {
    float offset = abs(at / grid.x - round(at / grid.x)) * grid.x;
    return clamp((0.5 * (pixel + grid.y) - offset) / pixel, 0.0, min(grid.y / pixel, 1.0));
}

vec3 scene(vec2 at) {
    vec3 ray = axes * vec3(at * slope, 1.0);
    if (height <= 0.0 || ray.y > -1e-3) return background_color;
    float depth = height / -ray.y, pixel = slope * 2.0 / size * depth;
    vec3 point = ray * depth;
    vec3 down = depth / height * (axes[1].y * axes[2] - axes[2].y * axes[1]);
    vec2 width = pixel * (abs(axes[0].xz) + abs(down.xz));
    vec2 away = point.xz - middle;
    float fade = max(1.0 - dot(away, away) / (reach * reach), 0.0);
    fade *= fade;
    vec2 where = point.xz + grid_origin;
    float line = fade * max(lines(where.x, width.x), lines(where.y, width.y));
    vec3 ground = background_color + (fade - line) * (ground_color - background_color)
                + line * (line_color - background_color);
    const vec3 up = vec3(0.0, 1.0, 0.0);
    float thread = 0.0, dark = 0.0, touch = 0.0;
    for (int k = 0; k + 1 < num_knots; k++)
        thread = max(thread, occlusion(point, up, knots[k], knots[k + 1], vec2(trail_width), vec2(trail_width)));
    ground = mix(ground, trail_color, thread * fade);
    for (int p = 0; p < num_parts; p++) {
        vec2 high = vec2(starts[p].y, ends[p].y) + height, radius = vec2(starts[p].w, ends[p].w);
        if (paint[p].w == 0.0 || max(high.x, high.y) <= 0.0) continue;
        high = max(high, 0.0);
        dark = max(dark, occlusion(point, to_light, starts[p].xyz, ends[p].xyz, radius, 0.012 + 0.10 * high));
        if (min(high.x, high.y) < shadow.z)
            touch = max(touch, occlusion(point, up, starts[p].xyz, ends[p].xyz, radius, 0.05 + high));
    }
    return ground * (1.0 - shadow.x * dark) * (1.0 - shadow.y * touch);
}

vec4 body(vec2 at) {
    vec3 ray = normalize(axes * vec3(at * slope, 1.0));
    float nearest = 1e8;
    int part = -1;
    for (int p = 0; p < num_parts; p++) {
        // as in numpy, a part that reaches behind the camera is not drawn
        vec2 depth = vec2(dot(starts[p].xyz, axes[2]), dot(ends[p].xyz, axes[2]));
        if (any(lessThanEqual(depth, vec2(starts[p].w, ends[p].w) + 0.05))) continue;
        float hit = enter_cone(ray, starts[p], ends[p]);
        if (hit < nearest) { nearest = hit; part = p; }
    }
    vec3 point = ray * nearest;
    float high = point.y + height;
    if (part < 0 || high <= 0.0) return vec4(0.0);
    vec4 start = starts[part], end = ends[part];
    vec3 axis = end.xyz - start.xyz;
    float taper = start.w - end.w, slant = max(dot(axis, axis) - taper * taper, 1e-8);
    float foot = clamp((dot(axis, point - start.xyz) - start.w * taper) / slant, 0.0, 1.0);
    vec3 normal = normalize(point - start.xyz - foot * axis);
    float key = max(dot(normal, to_light) * 0.85 + 0.15, 0.0), sky = normal.y * 0.5 + 0.5;
    sky *= min(high * 1.2 + sky * 0.5 + 0.35, 1.0);
    float edge = clamp(1.0 + dot(normal, axes[2]), 0.0, 1.0);
    float rim = edge * edge * max(dot(normal, to_rim) + 0.2, 0.0);
    float gloss = 18.0 / 255.0 * pow(max(dot(normal, normalize(to_light - axes[2])), 0.0), 16.0);
    vec3 albedo = paint[part].rgb;
    if (part == head) {
        vec3 crown = normalize(axis), face = normalize(cross(across, crown));
        vec3 local = point - 0.5 * (start.xyz + end.xyz);
        float band = min(dot(local, face) - 0.025, 0.032 - abs(dot(local, crown) - 0.012));
        albedo = mix(albedo, visor_color * visor_color, clamp(160.0 * band, 0.0, 1.0));
    }
    return vec4(min(sqrt(albedo * (key * key_color + sky * sky_color + rim * rim_color)) + gloss, 1.0), 1.0);
}

void main() {
    vec4 figure = vec4(0.0);
    for (int i = 0; i < samples; i++)
        for (int j = 0; j < samples; j++) {
            vec2 shift = (vec2(i, j) + 0.5) / float(samples) - 0.5;
            figure += body((gl_FragCoord.xy + shift) * (2.0 / size) - 1.0);
        }
    figure /= float(samples * samples);
    color = scene(gl_FragCoord.xy * (2.0 / size) - 1.0) * (1.0 - figure.a) + figure.rgb;
}
"""
)

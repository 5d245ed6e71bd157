"""Surfaces of the items as Cycles materials; colours are linear RGB."""

from __future__ import annotations

from collections.abc import Callable

import bpy
import numpy as np
import shapes
from designs import WHITE, Colour


def _material() -> tuple[bpy.types.Material, Callable[..., bpy.types.Node], Callable[..., object]]:
    material = bpy.data.materials.new("surface")
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    return material, tree.nodes.new, tree.links.new


def plastic(colour: Colour, roughness: float = 0.35, metallic: float = 0.0) -> bpy.types.Material:
    """An opaque surface."""
    material, node, link = _material()
    surface, output = node("ShaderNodeBsdfPrincipled"), node("ShaderNodeOutputMaterial")
    surface.inputs["Base Color"].default_value = (*colour, 1.0)
    surface.inputs["Roughness"].default_value = roughness
    surface.inputs["Metallic"].default_value = metallic
    link(surface.outputs[0], output.inputs["Surface"])
    return material


def picture(pixels: shapes.Array, roughness: float = 0.4, metallic: float = 0.0) -> bpy.types.Material:
    """An opaque surface that carries a picture of linear RGB pixels."""
    material = plastic(WHITE, roughness, metallic)
    height, width = pixels.shape[:2]
    image = bpy.data.images.new("print", width, height, float_buffer=True)
    image.pixels.foreach_set(np.dstack([pixels, np.ones((height, width))]).astype(np.float32).ravel())
    texture = material.node_tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    surface = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(texture.outputs["Color"], surface.inputs["Base Color"])
    return material


def shell(tint: Colour, edge: float = 0.7, haze: float = 0.05) -> bpy.types.Material:
    """A thin clear wall: what is behind shows through unbent, edges and highlights are milky."""
    material, node, link = _material()
    clear, milky, gloss = (
        node("ShaderNodeBsdfTransparent"),
        node("ShaderNodeBsdfDiffuse"),
        node("ShaderNodeBsdfGlossy"),
    )
    facing, add, scale = node("ShaderNodeLayerWeight"), node("ShaderNodeMath"), node("ShaderNodeMath")
    mirror, wall, output = (
        node("ShaderNodeMixShader"),
        node("ShaderNodeMixShader"),
        node("ShaderNodeOutputMaterial"),
    )
    clear.inputs["Color"].default_value = (*tint, 1.0)
    milky.inputs["Color"].default_value = (*(0.75 * np.array(tint)), 1.0)
    gloss.inputs["Roughness"].default_value = 0.12
    facing.inputs["Blend"].default_value = 0.25
    scale.operation, add.operation = "MULTIPLY", "ADD"
    scale.inputs[1].default_value, add.inputs[1].default_value = edge, haze
    mirror.inputs["Fac"].default_value = 0.6
    link(facing.outputs["Facing"], scale.inputs[0])
    link(scale.outputs[0], add.inputs[0])
    link(milky.outputs[0], mirror.inputs[1])
    link(gloss.outputs[0], mirror.inputs[2])
    link(add.outputs[0], wall.inputs["Fac"])
    link(clear.outputs[0], wall.inputs[1])
    link(mirror.outputs[0], wall.inputs[2])
    link(wall.outputs[0], output.inputs["Surface"])
    return material


def liquid(colour: Colour) -> bpy.types.Material:
    """Water or a drink: bends what is behind; its shadow is tinted, as no caustics are traced."""
    material, node, link = _material()
    glass, clear = node("ShaderNodeBsdfGlass"), node("ShaderNodeBsdfTransparent")
    path, mix, output = (
        node("ShaderNodeLightPath"),
        node("ShaderNodeMixShader"),
        node("ShaderNodeOutputMaterial"),
    )
    glass.inputs["Color"].default_value = clear.inputs["Color"].default_value = (*colour, 1.0)
    glass.inputs["IOR"].default_value = 1.33
    glass.inputs["Roughness"].default_value = 0.0
    link(path.outputs["Is Shadow Ray"], mix.inputs["Fac"])
    link(glass.outputs[0], mix.inputs[1])
    link(clear.outputs[0], mix.inputs[2])
    link(mix.outputs[0], output.inputs["Surface"])
    return material


def glowing(pixels: shapes.Array, strength: float) -> bpy.types.Material:
    """A screen behind glass that shows a picture of linear RGB pixels."""
    material = picture(pixels, 0.08)
    surface = material.node_tree.nodes["Principled BSDF"]
    texture = material.node_tree.nodes["Image Texture"]
    material.node_tree.links.new(texture.outputs["Color"], surface.inputs["Emission"])
    surface.inputs["Emission Strength"].default_value = strength
    for link in list(surface.inputs["Base Color"].links):
        material.node_tree.links.remove(link)
    surface.inputs["Base Color"].default_value = (0.01, 0.01, 0.01, 1.0)
    return material


def coded(red: float, green: float, blue: float, see_through: bool = False) -> bpy.types.Material:
    """A flat colour for the masks; one that is `see_through` colours only the first surface on a camera's ray."""
    material, node, link = _material()
    glow, output = node("ShaderNodeEmission"), node("ShaderNodeOutputMaterial")
    glow.inputs["Color"].default_value = (red, green, blue, 1.0)
    if not see_through:
        # What lies behind a clear wall keeps its own green, but red and blue belong to the first surface.
        path, split, join = node("ShaderNodeLightPath"), node("ShaderNodeMath"), node("ShaderNodeMixRGB")
        split.operation = "GREATER_THAN"
        split.inputs[1].default_value = 0.5
        join.inputs["Color1"].default_value = (red, green, blue, 1.0)
        join.inputs["Color2"].default_value = (0.0, green, 0.0, 1.0)
        link(path.outputs["Transparent Depth"], split.inputs[0])
        link(split.outputs[0], join.inputs["Fac"])
        link(join.outputs["Color"], glow.inputs["Color"])
        link(glow.outputs[0], output.inputs["Surface"])
        return material
    clear, both = node("ShaderNodeBsdfTransparent"), node("ShaderNodeAddShader")
    path, first = node("ShaderNodeLightPath"), node("ShaderNodeMath")
    first.operation = "LESS_THAN"
    first.inputs[1].default_value = 0.5
    link(path.outputs["Transparent Depth"], first.inputs[0])
    link(first.outputs[0], glow.inputs["Strength"])
    link(glow.outputs[0], both.inputs[0])
    link(clear.outputs[0], both.inputs[1])
    link(both.outputs[0], output.inputs["Surface"])
    return material

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

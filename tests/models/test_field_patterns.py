"""What prompt learning and dense-feature code does inside of towers, in both layouts.

Each function is a short version of published code's way, in our own words. Run on a model of
`create_model` it is open_clip's way, (B, T, width) with `attn_mask=`, and must give what the same
code gives on open_clip's own model; run on a model of `load` it is OpenAI's way, (T, B, width) and
masks in blocks, and must give that too.
"""

import functools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastclip.models.openai import LogitsCLIP
from tests.models.test_output_tokens import peer_of
from tests.support.small_models import SMALL, build, inputs

CONFIG = SMALL["quick_gelu"]
IMAGES, TOKENS = inputs(CONFIG)


class Layout(SimpleNamespace):
    """A model, whether it is sequence first, and how its text tower's blocks get their mask."""

    def inside(self, x):
        """(B, T, width) as the model's blocks have it."""
        return x.permute(1, 0, 2) if self.sequence_first else x

    outside = inside  # the same turn

    @property
    def tokens(self):
        return 0 if self.sequence_first else 1

    @property
    def mask(self):
        return {} if self.sequence_first else {"attn_mask": self.model.attn_mask}


@pytest.fixture(params=["open_clip's layout", "OpenAI's layout"])
def pair(request):
    """Ours in one of the layouts, and open_clip's own model."""
    built = build(CONFIG)
    theirs = Layout(model=peer_of(built, CONFIG), sequence_first=False)
    if request.param == "open_clip's layout":
        return Layout(model=built, sequence_first=False), theirs
    loaded = LogitsCLIP(CONFIG).eval()
    loaded.load_state_dict(built.state_dict())
    return Layout(model=loaded, sequence_first=True), theirs


def embedded(visual, images):
    """Patches and the class token up to the transformer, by hand."""
    x = visual.conv1(images)
    x = x.reshape(x.shape[0], x.shape[1], -1).permute(0, 2, 1)
    zeros = torch.zeros(x.shape[0], 1, x.shape[-1], dtype=x.dtype)
    x = torch.cat([visual.class_embedding.to(x.dtype) + zeros, x], dim=1)
    return visual.ln_pre(x + visual.positional_embedding.to(x.dtype))


def assert_same(way, pair, parameters=()):
    """Results and gradients, of parameters and of tensors of its own, of one `way`."""
    found, expected = [], []
    for layout, results in zip(pair, (found, expected), strict=True):
        own = [torch.randn(p, generator=torch.Generator().manual_seed(3)) for p in parameters]
        own = [x.requires_grad_() for x in own]
        outputs = way(layout, *own)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        results += outputs
        loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in outputs)
        weights = [layout.model.get_parameter(name) for name in WEIGHTS]
        results += torch.autograd.grad(loss, [*own, *weights], allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            off = (one - other).abs().max() / other.abs().max()
            assert one.shape == other.shape and off < 1e-5


WEIGHTS = (
    "visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight",
    "visual.transformer.resblocks.2.mlp.c_fc.weight", "transformer.resblocks.0.attn.in_proj_weight",
    "transformer.resblocks.1.ln_2.weight", "positional_embedding",
)  # fmt: skip


# Prompts


def read_end(layout, x):
    model = layout.model
    x = model.ln_final(x)
    return x[torch.arange(x.shape[0]), TOKENS.argmax(dim=-1)] @ model.text_projection


def learned_prompts(layout, context):
    """CoOp: learned vectors behind the start token, in the places of words."""
    model = layout.model
    words = model.token_embedding(TOKENS)
    context = context.unsqueeze(0).expand(len(words), -1, -1)
    x = torch.cat([words[:, :1], context, words[:, 1 + context.shape[1] :]], dim=1)
    x = layout.inside(x + model.positional_embedding)
    return read_end(layout, layout.outside(model.transformer(x, **layout.mask)))


def deep_text_prompts(layout, first, second):
    """MaPLe: each block starts with vectors of its own in the places of the one before."""
    model = layout.model
    x = layout.inside(model.token_embedding(TOKENS) + model.positional_embedding)
    for block, prompts in zip(model.transformer.resblocks, (first, second), strict=True):
        num_prompts = len(prompts)
        prompts = layout.inside(prompts.unsqueeze(0).expand(len(TOKENS), -1, -1))
        before = x.narrow(layout.tokens, 0, 1)
        num_behind = x.shape[layout.tokens] - 1 - num_prompts
        behind = x.narrow(layout.tokens, 1 + num_prompts, num_behind)
        x = block(torch.cat([before, prompts, behind], dim=layout.tokens), **layout.mask)
    return read_end(layout, layout.outside(x))


def visual_prompts(layout, prompts):
    """Shallow: tokens between the class token and the patches."""
    visual = layout.model.visual
    x = embedded(visual, IMAGES)
    prompts = prompts.unsqueeze(0).expand(len(x), -1, -1)
    x = torch.cat([x[:, :1], prompts, x[:, 1:]], dim=1)
    x = layout.outside(visual.transformer(layout.inside(x)))
    return visual.ln_post(x[:, 0]) @ visual.proj


def deep_visual_prompts(layout, *per_block):
    """Tokens behind the patches, anew before every block, put there in the layout of the blocks."""
    visual = layout.model.visual
    x = layout.inside(embedded(visual, IMAGES))
    length = x.shape[layout.tokens]
    for block, prompts in zip(visual.transformer.resblocks, per_block, strict=True):
        prompts = layout.inside(prompts.unsqueeze(0).expand(len(IMAGES), -1, -1))
        x = torch.cat([x.narrow(layout.tokens, 0, length), prompts], dim=layout.tokens)
        x = block(x)
    return visual.ln_post(layout.outside(x)[:, 0]) @ visual.proj


@pytest.mark.parametrize(
    "way, own",
    [
        (learned_prompts, [(4, 128)]),
        (deep_text_prompts, [(3, 128), (3, 128)]),
        (visual_prompts, [(2, 128)]),
        (deep_visual_prompts, [(2, 128), (2, 128), (2, 128)]),
    ],
)
def test_prompts(pair, way, own):
    assert_same(way, pair, own)


# Dense features: the last block by hand


def before_the_last_block(layout):
    *blocks, last = layout.model.visual.transformer.resblocks
    x = layout.inside(embedded(layout.model.visual, IMAGES))
    for block in blocks:
        x = block(x)
    return x, last


def projected(layout, x):
    visual = layout.model.visual
    return visual.ln_post(layout.outside(x)) @ visual.proj


def values_alone(layout):
    """MaskCLIP: every patch keeps its own value; query and key are left out."""
    x, last = before_the_last_block(layout)
    width = last.attn.embed_dim
    weight, bias = last.attn.in_proj_weight[-width:], last.attn.in_proj_bias[-width:]
    v = last.attn.out_proj(F.linear(last.ln_1(x), weight, bias))
    return projected(layout, v + x)


def self_correlated(layout, kind):
    """SCLIP (queries with queries and keys with keys) and ClearCLIP (no residual, no MLP)."""
    x, last = before_the_last_block(layout)
    attn = last.attn
    heads, head_dim = attn.num_heads, attn.embed_dim // attn.num_heads
    y = last.ln_1(x)
    y = y if layout.sequence_first else y.permute(1, 0, 2)
    T, B, width = y.shape
    q, k, v = F.linear(y, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (part.contiguous().view(T, B * heads, head_dim).transpose(0, 1) for part in (q, k, v))
    scale = head_dim**-0.5
    weights = torch.softmax(torch.bmm(q * scale, q.transpose(1, 2)), dim=-1)
    if kind == "sclip":
        weights = weights + torch.softmax(torch.bmm(k * scale, k.transpose(1, 2)), dim=-1)
    y = torch.bmm(weights, v).transpose(0, 1).contiguous().view(T, B, width)
    y = attn.out_proj(y)
    y = y if layout.sequence_first else y.permute(1, 0, 2)
    if kind == "sclip":
        y = x + y
        y = y + last.mlp(last.ln_2(y))
    return projected(layout, y)


def attention_by_hand(layout):
    """`F.multi_head_attention_forward` on the parameters of a block, which is sequence first."""
    x, last = before_the_last_block(layout)
    attn = last.attn
    y = last.ln_1(x)
    y = y if layout.sequence_first else y.permute(1, 0, 2)
    y, weights = F.multi_head_attention_forward(
        y, y, y, embed_dim_to_check=attn.embed_dim, num_heads=attn.num_heads,
        in_proj_weight=attn.in_proj_weight, in_proj_bias=attn.in_proj_bias,
        bias_k=attn.bias_k, bias_v=attn.bias_v, add_zero_attn=attn.add_zero_attn,
        dropout_p=attn.dropout, out_proj_weight=attn.out_proj.weight,
        out_proj_bias=attn.out_proj.bias, training=attn.training, need_weights=True,
    )  # fmt: skip
    y = x + (y if layout.sequence_first else y.permute(1, 0, 2))
    return [projected(layout, y + last.mlp(last.ln_2(y))), weights]


@pytest.mark.parametrize(
    "way",
    [
        values_alone,
        functools.partial(self_correlated, kind="sclip"),
        functools.partial(self_correlated, kind="clearclip"),
        attention_by_hand,
    ],
    ids=["MaskCLIP", "SCLIP", "ClearCLIP", "by hand"],
)
def test_dense_features(pair, way):
    assert_same(way, pair)


# What is put in place of parts, and what looks at them


class ValueAttention(nn.Module):
    """CLIP Surgery's kind: attention between values, called as the attention before it."""

    def __init__(self, plain, sequence_first):
        super().__init__()
        self.heads, self.sequence_first = plain.num_heads, sequence_first
        self.qkv = nn.Linear(plain.embed_dim, 3 * plain.embed_dim)
        self.qkv.weight, self.qkv.bias = plain.in_proj_weight, plain.in_proj_bias
        self.proj = plain.out_proj

    def forward(self, query, key, value, need_weights=False, attn_mask=None):
        x = query.transpose(0, 1) if self.sequence_first else query
        B, T, _ = x.shape
        v = self.qkv(x).reshape(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)[2]
        weights = ((v @ v.transpose(-2, -1)) * v.shape[-1] ** -0.5).softmax(dim=-1)
        x = self.proj((weights @ v).transpose(1, 2).reshape(B, T, -1))
        return (x.transpose(0, 1) if self.sequence_first else x), None


def replaced_attention(layout):
    visual = layout.model.visual
    for block in visual.transformer.resblocks[-2:]:
        block.attn = ValueAttention(block.attn, layout.sequence_first)
    seen = []
    hook = visual.transformer.register_forward_hook(lambda module, args, out: seen.append(out))
    pooled = layout.model.encode_image(IMAGES)
    hook.remove()
    return [pooled, layout.outside(seen[0])]


def attention_maps(layout):
    """Rollout: `forward` is patched to ask for weights, and hooks collect them."""
    maps = []
    model = layout.model
    for block in [*model.visual.transformer.resblocks, *model.transformer.resblocks]:
        plain = block.attn.forward

        def asks(*args, plain=plain, **named):
            return plain(*args, **named | dict(need_weights=True, average_attn_weights=False))

        block.attn.forward = asks
        block.attn.register_forward_hook(lambda module, args, out: maps.append(out[1]))
    features = [model.encode_image(IMAGES), model.encode_text(TOKENS)]
    assert [x.shape[-1] for x in maps] == [17, 17, 17, 9, 9]
    return features + maps


def tokens_of_blocks(layout):
    """Every block's output, and the last norm's, while features are computed."""
    seen = []
    visual = layout.model.visual
    for block in visual.transformer.resblocks:
        block.register_forward_hook(lambda module, args, out: seen.append(layout.outside(out)))
    visual.ln_post.register_forward_hook(lambda module, args, out: seen.append(out))
    features = layout.model.encode_image(IMAGES)
    assert [x.shape for x in seen] == 4 * [(3, 17, 128)]
    return [features, *seen]


@pytest.mark.parametrize("way", [replaced_attention, attention_maps, tokens_of_blocks])
def test_parts_that_are_replaced_or_looked_at(pair, way):
    assert_same(way, pair)


def test_a_low_rank_adapter_of_attention(pair):
    """CLIP-LoRA's kind: projections apart, made of the parameters of what was there."""

    class Adapted(nn.Module):
        def __init__(self, plain, sequence_first):
            super().__init__()
            self.num_heads, self.head_dim = plain.num_heads, plain.head_dim
            self.sequence_first = sequence_first
            width = plain.embed_dim
            weights = plain.in_proj_weight.data.chunk(3)
            biases = plain.in_proj_bias.data.chunk(3)
            generator = torch.Generator().manual_seed(5)
            self.down = nn.Parameter(0.1 * torch.randn(2, width, generator=generator))
            self.up = nn.Parameter(0.1 * torch.randn(width, 2, generator=generator))
            self.parts = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
            for part, weight, bias in zip(self.parts, weights, biases, strict=True):
                part.weight.data, part.bias.data = weight, bias
            self.proj = plain.out_proj

        def forward(self, query, key, value, **kwargs):
            mask, is_causal = kwargs.get("attn_mask"), kwargs.get("is_causal", False)
            inputs = (query, key, value)
            if self.sequence_first:
                inputs = [x.transpose(0, 1) for x in inputs]
            q, k, v = (part(x) for part, x in zip(self.parts, inputs, strict=True))
            v = v + inputs[2] @ self.down.T @ self.up.T
            q, k, v = (
                x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v)
            )
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
            x = self.proj(x.transpose(1, 2).flatten(2))
            return (x.transpose(0, 1) if self.sequence_first else x), None

    results = []
    for layout in pair:
        model = layout.model
        for block in [*model.visual.transformer.resblocks, *model.transformer.resblocks]:
            block.attn = Adapted(block.attn, layout.sequence_first)
        features = model.encode_image(IMAGES), model.encode_text(TOKENS)
        blocks = (model.visual.transformer.resblocks[-1], model.transformer.resblocks[0])
        adapters = [p for block in blocks for p in (block.attn.down, block.attn.up)]
        loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in features)
        results.append([*features, *torch.autograd.grad(loss, adapters)])
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


def masks_per_head(num_tokens, visible):
    """(B * heads, T, T): what each sample and head reads, another share of the tokens for each."""
    hidden = torch.rand(3 * 2, num_tokens, num_tokens, generator=torch.Generator().manual_seed(7))
    hidden = hidden > visible
    hidden[:, range(num_tokens), range(num_tokens)] = False
    return torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))


def region_masks(layout):
    """Tokens of regions: the last blocks read what a mask per sample and head shows."""
    visual = layout.model.visual
    mask = masks_per_head(17, 0.5)
    x = layout.inside(embedded(visual, IMAGES))
    for block in visual.transformer.resblocks:
        if layout.sequence_first:
            block.attn_mask = mask
            x = block(x)
        else:
            x = block(x, attn_mask=mask)
    return projected(layout, x)


def masks_of_texts(layout):
    """A mask per sample and head in the place of the causal one, for the tower itself."""
    layout.model.attn_mask = masks_per_head(9, 0.7)
    return layout.model.encode_text(TOKENS)


@pytest.mark.parametrize("way", [region_masks, masks_of_texts])
def test_masks_per_sample_and_head(pair, way):
    assert_same(way, pair)


def test_masks_per_sample_and_head_in_the_blocks_of_a_tower():
    loaded = LogitsCLIP(CONFIG).eval()
    loaded.load_state_dict(build(CONFIG).state_dict())
    expected = region_masks(Layout(model=loaded, sequence_first=True))[:, 0]
    assert loaded.visual.transformer.resblocks[0].attn_mask.ndim == 3
    torch.testing.assert_close(loaded.encode_image(IMAGES), expected, rtol=1e-5, atol=1e-5)
    loaded.visual.output_tokens = True
    torch.testing.assert_close(loaded.encode_image(IMAGES)[0], expected, rtol=1e-5, atol=1e-5)


# Towers by open_clip's names


def test_a_tower_by_open_clips_own_steps():
    model = build(SMALL["clipa"])
    theirs = peer_of(model, SMALL["clipa"])
    images, _ = inputs(SMALL["clipa"])
    results = []
    for visual in (model.visual, theirs.visual):
        x = visual.transformer(visual._embeds(images))
        results.append([x, *visual._pool(x)])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_values_of_a_resnets_readout_as_convolutions():
    """MaskCLIP on a ResNet: value and output projection of `attnpool` at every place."""
    config = SMALL["resnet"]
    model = build(config)
    images, _ = inputs(config)
    results = []
    for visual in (model.visual, peer_of(model, config).visual):
        x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        pool = visual.attnpool
        for linear in (pool.v_proj, pool.c_proj):
            x = F.conv2d(x, linear.weight[:, :, None, None], linear.bias)
        results.append(x)
    assert results[0].shape == (3, 48, 2, 2)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_values_of_siglips_last_block_by_timms_names():
    from tests.support.peers import timm

    config = SMALL["siglip"]
    trunk = build(config).visual.trunk
    theirs = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=4, num_classes=0,
        class_token=False, global_pool="map", act_layer="gelu_tanh",
    ).eval()  # fmt: skip
    theirs.load_state_dict(trunk.state_dict(), strict=True)
    images, _ = inputs(config)
    results = []
    for each in (trunk, theirs):
        x = each.patch_embed(images) + each.pos_embed
        *blocks, last = each.blocks
        for block in blocks:
            x = block(x)
        attn, y = last.attn, last.norm1(x)
        B, T, width = y.shape
        qkv = attn.qkv(y).reshape(B, T, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        q, _, v = qkv.unbind(0)
        weights = (q * attn.scale @ q.transpose(-2, -1)).softmax(dim=-1)
        y = attn.proj((weights @ v).transpose(1, 2).reshape(B, T, width))
        results.append([each.norm(x + y), each.attn_pool(each.norm(y))])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)

"""The scorer of beams that open_clip calls and transformers 5 no longer has, as version 4 had it.

Written from its behaviour for tests: a length penalty of 1, one text kept per image, and a search
that ends early only where no text that goes on can still be better.
"""

import torch


class BeamSearchScorer:
    def __init__(self, batch_size, num_beams, device, num_beam_groups):
        self.num_beams, self.num_beam_groups = num_beams, num_beam_groups
        self.size = num_beams // num_beam_groups
        # (score, tokens) of ended texts of each image and group.
        self._beam_hyps = [[] for _ in range(batch_size * num_beam_groups)]
        self._done = [False] * len(self._beam_hyps)

    @property
    def is_done(self):
        return all(self._done)

    def _add(self, kept, tokens, total, length):
        kept.append((total / length, tokens))
        if len(kept) > self.size:
            worst = min(score for score, _ in kept)
            # Of equals, the one that came last goes.
            last = max(i for i, (score, _) in enumerate(kept) if score == worst)
            del kept[last]

    def process(self, input_ids, scores, tokens, indices, pad_token_id, eos_token_id,
                beam_indices, group_index):  # fmt: skip
        length, ends = input_ids.shape[1] + 1, set(eos_token_id.tolist())
        result = torch.zeros(len(scores), self.size)
        next_tokens = torch.zeros(len(scores), self.size, dtype=torch.int64)
        next_indices = torch.zeros(len(scores), self.size, dtype=torch.int64)
        for image in range(len(scores)):
            group = image * self.num_beam_groups + group_index
            if self._done[group]:
                next_tokens[image] = pad_token_id
                continue
            filled = 0
            for rank in range(scores.shape[1]):
                row = image * self.size + int(indices[image, rank])
                token, total = int(tokens[image, rank]), float(scores[image, rank])
                if token in ends:
                    if rank < self.size:
                        self._add(self._beam_hyps[group], input_ids[row].clone(), total, length)
                    continue
                result[image, filled], next_tokens[image, filled] = total, token
                next_indices[image, filled] = row
                filled += 1
                if filled == self.size:
                    break
            kept = self._beam_hyps[group]
            best = float(scores[image].max()) / length
            if len(kept) == self.size and min(score for score, _ in kept) >= best:
                self._done[group] = True
        return {
            "next_beam_scores": result.view(-1), "next_beam_tokens": next_tokens.view(-1),
            "next_beam_indices": next_indices.view(-1),
        }  # fmt: skip

    def finalize(self, input_ids, final_beam_scores, final_beam_tokens, final_beam_indices,
                 max_length, pad_token_id, eos_token_id, beam_indices):  # fmt: skip
        for group, kept in enumerate(self._beam_hyps):
            for row in range(group * self.size, (group + 1) * self.size):
                if not self._done[group]:
                    total = float(final_beam_scores[row])
                    self._add(kept, input_ids[row], total, input_ids.shape[1])
        num_images = len(self._beam_hyps) // self.num_beam_groups
        texts = []
        for image in range(num_images):
            groups = slice(image * self.num_beam_groups, (image + 1) * self.num_beam_groups)
            every = [text for kept in self._beam_hyps[groups] for text in kept]
            texts.append(sorted(every, key=lambda text: text[0])[-1][1])
        width = min(max(map(len, texts)) + 1, max_length)
        out = torch.full((num_images, width), pad_token_id, dtype=torch.int64)
        for row, text in zip(out, texts, strict=True):
            row[: len(text)] = text
            if len(text) < width:
                row[len(text)] = eos_token_id[0]
        return {"sequences": out}

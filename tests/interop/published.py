"""The network of JEM++ (Yang & Ji, ICCV 2021) with the published names, aliases included, for checks here."""
import torch
import torch.nn as nn
import torch.nn.functional as F

LEAK = 0.2


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in, momentum=0.9)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(c_out, momentum=0.9)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, stride=stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride))

    def forward(self, x):
        h = self.conv1(F.leaky_relu(self.bn1(x), LEAK))
        return self.conv2(F.leaky_relu(self.bn2(h), LEAK)) + self.shortcut(x)


class WideResNet(nn.Module):
    def __init__(self, depth, width, channels):
        super().__init__()
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.layer_one = self.conv1
        layers = []
        for s in range(3):
            blocks = []
            for i in range((depth - 4) // 6):
                c_in = widths[s] if i == 0 else widths[s + 1]
                blocks.append(Block(c_in, widths[s + 1], 2 if s > 0 and i == 0 else 1))
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = layers
        self.bn1 = nn.BatchNorm2d(widths[3], momentum=0.9)
        self.other_layers = nn.Sequential(self.layer1, self.layer2, self.layer3, self.bn1)

    def forward(self, x):
        return F.leaky_relu(self.other_layers(self.layer_one(x)), LEAK).mean((2, 3))


class Model(nn.Module):
    def __init__(self, depth, width, channels, classes):
        super().__init__()
        self.f = WideResNet(depth, width, channels)
        self.energy_output = nn.Linear(64 * width, 1)
        self.class_output = nn.Linear(64 * width, classes)

    def forward(self, x):
        return self.class_output(self.f(x))


def load(path):
    """The model and replay buffer of a checkpoint, read with weights_only and loaded strictly."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    state = saved["model_state_dict"]
    blocks = len({k.split(".")[2] for k in state if k.startswith("f.layer1.")})
    classes, features = state["class_output.weight"].shape
    model = Model(6 * blocks + 4, features // 64, state["f.conv1.weight"].shape[1], classes)
    model.load_state_dict(state, strict=True)
    return model.eval(), saved.get("replay_buffer")

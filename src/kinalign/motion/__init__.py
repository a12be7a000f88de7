"""What a motion is: skeleton, joints, rotations, features, file formats. numpy only."""
